"""`[roles.NAME]`: the plugin actors of a run and their limits."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator

from bigpe.agents.messages.core import MESSAGE_TYPES
from bigpe.agents.messages.plugin import Gateable
from bigpe.agents.plugins import Contributor, Gate, Observer, PluginRole
from bigpe.agents.plugins.agentchat import (
    AgentConfig,
    AgentContributor,
    AgentGate,
    AgentObserver,
    check_agent,
)
from bigpe.services.core import plugins
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Value

Shape = Literal["observer", "gate", "contributor"]
SHAPES: Mapping[Shape, type[PluginRole]] = {
    "observer": Observer,
    "gate": Gate,
    "contributor": Contributor,
}
AGENTS: Mapping[Shape, type[PluginRole]] = {
    "observer": AgentObserver,
    "gate": AgentGate,
    "contributor": AgentContributor,
}
KINDS = frozenset(str(message.model_fields["kind"].default) for message in MESSAGE_TYPES)
UNREADABLE = frozenset(
    {"RoleSaid", "RoleReported", "RolesChanged", "ReviewRequested", "GateDecided"}
)
"""Kinds from or to plugin actors. Observers of these could answer each other forever."""


class RoleConfig(Value):
    """`[roles.NAME]`: a class, or an AgentChat agent."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    class_: Annotated[str | None, AfterStart.NEEDS_FORK] = Field(default=None, alias="class")
    """A name of `bigpe roles list`, or "package.module:Class" with its package in `allow`."""
    agent: Annotated[AgentConfig | None, AfterStart.NEEDS_FORK] = None
    """`[roles.NAME.agent]`: an AgentChat agent instead of a class."""
    shape: Annotated[Shape | None, AfterStart.NEEDS_FORK] = None
    """Shape of an agent: observer, gate or contributor. A class defines its own shape."""
    allow: Annotated[tuple[str, ...], AfterStart.CHANGES_NO_RESULT] = ()
    """Prefixes of modules and providers whose code may be loaded."""
    reads: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """Kinds of messages that an observer reads; empty: the kinds that its class names."""
    replay: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether an observer that joins later also reads the earlier messages."""
    before: Annotated[Gateable | None, AfterStart.NEEDS_FORK] = None
    """The kind of answer that a gate judges; None: the kind that its class names."""
    required: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether the run stops if a gate fails. If not, the answer passes unjudged."""
    timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=60.0, gt=0)
    """Time limit per message, seconds, without the time of its language model."""
    max_texts: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=8, ge=1)
    """Maximum number of texts per message."""
    max_chars: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=20_000, ge=1)
    """Maximum length of these texts together, characters."""
    max_llm_calls: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=8, ge=0)
    """Maximum number of language model calls per message."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """`[roles.NAME.options]`: settings of the plugin's class."""

    @model_validator(mode="after")
    def _one_of_both(self) -> RoleConfig:
        if (self.class_ is None) == (self.agent is None):
            raise ValueError("give either class, or an agent")
        if self.agent is not None and self.shape is None:
            raise ValueError('an agent needs shape = "observer", "gate" or "contributor"')
        if self.class_ is not None and self.shape is not None:
            raise ValueError("a class has its own shape")
        unknown = sorted(set(self.reads) - (KINDS - UNREADABLE))
        if unknown:
            raise ValueError(
                f"reads {', '.join(unknown)}: no kind of message that an observer can read; "
                f"there are {', '.join(sorted(KINDS - UNREADABLE))}"
            )
        return self


@dataclass(frozen=True)
class FoundRole:
    """A configured plugin actor with its loaded class."""

    name: str
    shape: Shape
    cls: type[PluginRole]
    options: Any
    config: RoleConfig

    @property
    def reads(self) -> tuple[str, ...]:
        """The kinds that an observer reads."""
        own = self.cls.reads if issubclass(self.cls, Observer) else ()
        return tuple(sorted(set(self.config.reads or own)))

    @property
    def before(self) -> Gateable:
        """The kind of answer that a gate judges."""
        own = self.cls.before if issubclass(self.cls, Gate) else "InstructionsProposed"
        return self.config.before or own


def find_roles(roles: Mapping[str, RoleConfig]) -> list[FoundRole]:
    """Load the plugin actors, ordered by name. Raises ConfigError with the name and the cause."""
    return [_find(name, config) for name, config in sorted(roles.items())]


def _find(name: str, config: RoleConfig) -> FoundRole:
    if config.agent is not None and config.shape is not None:
        check_agent(name, config.agent, config.allow)
        return FoundRole(name, config.shape, AGENTS[config.shape], config.agent, config)
    cls = _load(name, config.class_ or "", config.allow)
    shape: Shape | None = next((s for s in SHAPES if issubclass(cls, SHAPES[s])), None)
    if shape is None:
        raise ConfigError(
            f"[roles.{name}] class {cls.__qualname__} is no Observer, Gate or Contributor of "
            "bigpe.agents.plugins"
        )
    found = FoundRole(name, shape, cls, _options(name, cls, config.options), config)
    _check_shape(found)
    return found


def _check_shape(role: FoundRole) -> None:
    place = f"[roles.{role.name}]"
    unknown = sorted(set(role.reads) - (KINDS - UNREADABLE))
    if role.shape == "observer" and (unknown or not role.reads):
        raise ConfigError(
            f"{place} reads {', '.join(unknown) or 'nothing'}; name kinds of messages in reads: "
            f"{', '.join(sorted(KINDS - UNREADABLE))}"
        )
    if role.before not in get_args(Gateable):
        raise ConfigError(f"{place} guards {role.before!r}; a gate may guard one of "
                          f"{', '.join(get_args(Gateable))}")  # fmt: skip
    given = role.config.model_fields_set
    for key, shape in (("reads", "observer"), ("replay", "observer"), ("before", "gate"),
                       ("required", "gate")):  # fmt: skip
        if key in given and getattr(role.config, key) and role.shape != shape:
            raise ConfigError(f"{place} {key} is for an {shape}, and this is a {role.shape}")


def _load(name: str, path: str, allow: tuple[str, ...]) -> type[PluginRole]:
    module, _, attribute = path.partition(":")
    if not attribute:
        found: Any = plugins.load("roles", path)
    else:
        if not any(module == p or module.startswith(p.rstrip(".") + ".") for p in allow):
            raise ConfigError(
                f"[roles.{name}] class {path!r} is not trusted: importing it would run its code. "
                f"Add allow = [{module.partition('.')[0]!r}] if you trust it"
            )
        found = _import(name, path, module, attribute)
    if not isinstance(found, type) or not issubclass(found, PluginRole):
        raise ConfigError(f"[roles.{name}] {path!r} is not a class made of bigpe.agents.plugins")
    return found


def _import(name: str, path: str, module: str, attribute: str) -> Any:
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ConfigError(
            f"[roles.{name}] class {path!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _options(name: str, cls: type[PluginRole], options: dict[str, Any]) -> Any:
    if cls.Options is None:
        return options
    try:
        return cls.Options.model_validate(options)
    except ValidationError as error:
        errors = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"[roles.{name}.options] {errors}") from error
