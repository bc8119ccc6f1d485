"""Role templates and seed instructions, read from the TOML files of this package.

Untrusted text is never formatted: each slot is replaced once, as a whole.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple


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
    """The packaged seed instructions."""
    return seeds_of(_read("data/seeds.toml"))


def seeds_of(raw: dict[str, Any]) -> tuple[SeedText, ...]:
    """The seed instructions of a file's content; KeyError or TypeError when it is of another form.

    [[seed]] with name and text, each with any number of [[seed.exemplar]] with naive and rewrite.
    """
    return tuple(
        SeedText(
            seed["name"],
            seed["text"],
            tuple((e["naive"], e["rewrite"]) for e in seed.get("exemplar", [])),
        )
        for seed in raw["seed"]
    )
