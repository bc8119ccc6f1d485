"""Roles, policies, renderers, scorers, safety filters and styles of other installed packages.

A package registers an object in one of these entry point groups; the configuration names it:

    [project.entry-points."bigpe.policies"]
    boltzmann = "my_package.boltzmann:make"

Who installed a package trusts it: a name in a configuration loads nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple

from bigpe.services.core.errors import BigpeError, ConfigError

Kind = Literal["roles", "policies", "renderers", "scorers", "safety", "reasoning_styles"]
OWN = "bigpe"


class PluginRow(NamedTuple):
    """An object that the configuration may name."""

    name: str
    package: str
    """The installed package and its version; "bigpe" for a built-in object."""
    summary: str
    """One line."""


def offered(kind: Kind) -> dict[str, EntryPoint]:
    """Entry points of installed packages by name; imports nothing.

    ConfigError if two packages register the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=f"bigpe.{kind}"), key=lambda p: (p.name, p.value)):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigError(
                f"{point.name!r} of bigpe.{kind} is offered by {_package(other)} and "
                f"{_package(point)}; uninstall one of them"
            )
    return found


def names(kind: Kind, builtin: Collection[str]) -> list[str]:
    """All names that the configuration may use, built in or installed, sorted."""
    return sorted({*builtin, *offered(kind)})


def require_known(kind: Kind, name: str, builtin: Collection[str]) -> str:
    """`name`. ValueError, which lists the names, if it is neither built in nor installed."""
    if name not in builtin and name not in offered(kind):
        raise ValueError(
            f"there is no {name!r} among the {kind.replace('_', ' ')}; use one of "
            f"{', '.join(names(kind, builtin))}, or install the package that brings it"
        )
    return name


def load(kind: Kind, name: str) -> Any:
    """The object that an installed package registers as `name`.

    ConfigError if there is none, or if its import fails.
    """
    point = offered(kind).get(name)
    if point is None:
        raise ConfigError(
            f"no installed package offers {name!r} as one of bigpe.{kind}; "
            f"`bigpe {kind.replace('_', '-')} list` shows what there is"
        )
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(
            f"{name!r} of bigpe.{kind} ({point.value} in {_package(point)}) cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error


def make(kind: Kind, name: str, *given: Any) -> Any:
    """The result of the registered object, called with `given`. ConfigError if it fails."""
    offer = load(kind, name)
    try:
        return offer(*given)
    except BigpeError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name!r} of bigpe.{kind} cannot be made: {type(error).__name__}: {error}; "
            "check its settings in bigpe.toml"
        ) from error


def package_of(kind: Kind, name: str) -> str:
    """The package that registers `name`, with its version; "" if none does."""
    point = offered(kind).get(name)
    return _package(point) if point else ""


def rows(kind: Kind, builtin: Mapping[str, str]) -> list[PluginRow]:
    """Built-in rows, then installed ones. The summary of a broken one is its error."""
    found = [PluginRow(name, OWN, summary) for name, summary in builtin.items()]
    for name, point in offered(kind).items():
        if name in builtin:
            summary = "never used: the built-in one has the same name"
        else:
            summary = summary_of(kind, name)
        found.append(PluginRow(name, _package(point), summary))
    return found


def summary_of(kind: Kind, name: str) -> str:
    """What the object of an installed package says about itself, in one line; else the error."""
    try:
        text = str(getattr(load(kind, name), "__doc__", None) or "")
    except ConfigError as error:
        return str(error)
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else "(it says nothing about itself)"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
