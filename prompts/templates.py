"""Role templates and seed instructions, read from the TOML files of this package.

Untrusted text is never formatted: each slot is replaced once, as a whole.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from bigpe.prompts.library import PromptForm


class Example(NamedTuple):
    """A request and the answer that it should get."""

    user: str
    assistant: str


class Template(NamedTuple):
    """A role's system text, with slots like <instruction>, and its examples."""

    system: str
    examples: tuple[Example, ...]
    parts: dict[str, str]
    """Texts that a request chooses from, by name."""

    def system_with(self, **slots: str) -> str:
        """The system text with each slot replaced; a slot inside a value stays as it is."""
        return re.sub(r"<(\w+)>", lambda mark: slots.get(mark[1], mark[0]), self.system)


class SeedText(NamedTuple):
    """A seed instruction: name, text, and (naive, rewrite) exemplars."""

    name: str
    text: str
    exemplars: tuple[tuple[str, str], ...]


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files("bigpe.prompts") / name).read_text("utf-8"))


@cache
def template(role: str) -> Template:
    """The template of a role in a style, such as "free_form/generator".

    Without a style: that of the evidence-worded style.
    """
    name = role if "/" in role else f"evidence_worded/{role}"
    raw = _read(f"{name}.toml")
    examples = tuple(Example(e["user"], e["assistant"]) for e in raw.get("example", []))
    return Template(raw["system"], examples, raw.get("operators", {}))


@cache
def seed_texts() -> tuple[SeedText, ...]:
    """The seed instructions of the embedded models."""
    return seeds_of(_read("data/seeds.toml"))


def seed_file(form: PromptForm) -> str:
    """A file of seed instructions for painters of a form, as it stands in a project."""
    return (files("bigpe.prompts") / f"data/seeds_{form}.toml").read_text("utf-8")


def seeds_of(raw: dict[str, Any]) -> tuple[SeedText, ...]:
    """The seed instructions of a file's content.

    [[seed]] with name and text, each with any number of [[seed.exemplar]] with naive and rewrite.
    KeyError, TypeError or ValueError when it is of another form, or has a key more.
    """
    _refuse_others(raw, "seed")
    return tuple(map(_seed_of, raw["seed"]))


def _seed_of(seed: dict[str, Any]) -> SeedText:
    _refuse_others(seed, "name", "text", "exemplar")
    exemplars = seed.get("exemplar", [])
    for exemplar in exemplars:
        _refuse_others(exemplar, "naive", "rewrite")
    pairs = tuple((exemplar["naive"], exemplar["rewrite"]) for exemplar in exemplars)
    text = seed["text"]
    if not isinstance(text, str):
        raise TypeError(f"text is {text!r}, not a text")
    return SeedText(seed["name"], text, pairs)


def _refuse_others(table: dict[str, Any], *keys: str) -> None:
    if others := set(table) - set(keys):
        raise ValueError(f"unknown key {min(others)!r}; use {', '.join(keys)}")
