"""Role templates and seed instructions, read from the TOML files of this package.

Untrusted text is never formatted: each slot is replaced once, as a whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from bigpe.prompts.library import PromptForm

FreeFormRole = Literal["generator", "gradient", "modifier"]
FREE_FORM_ROLES: tuple[FreeFormRole, ...] = get_args(FreeFormRole)
_NECESSARY: dict[FreeFormRole, tuple[str, ...]] = {
    "generator": ("instruction", "answer"),
    "gradient": (),
    "modifier": ("operator", "constraints", "words"),
}
"""Slots whose content is checked in the answers, or read from them."""
_FIELDS: dict[FreeFormRole, tuple[str, ...]] = {
    "generator": (),
    "gradient": ("inference", "improvements"),
    "modifier": ("instruction", "change"),
}
"""Fields of the JSON object that the answer is. A server without schemas reads them here only."""


class Example(NamedTuple):
    """A request and the answer that it should get."""

    user: str
    assistant: str


class Template(NamedTuple):
    """A role's system text, with slots like <instruction>, and its examples."""

    system: str
    examples: tuple[Example, ...]
    parts: Mapping[str, str] = MappingProxyType({})
    """Texts that a request chooses from, by name."""

    def system_with(self, **slots: str) -> str:
        """The system text with each slot replaced; a slot inside a value stays as it is."""
        return re.sub(r"<(\w+)>", lambda mark: slots.get(mark[1], mark[0]), self.system)


@cache
def own_template(role: FreeFormRole, text: str) -> Template:
    """The user's own template of a role of the free-form style.

    Args:
        role: The role.
        text: The content of its TOML file: system, for the modifier [operators], and if you like
            version. Slots are those of the packaged template. A mark such as <name> with its
            </name> is no slot.

    Raises:
        ValueError: It is no TOML, or a key, a slot, an operator or a field of the answer is
            missing or unknown.
    """
    raw = tomllib.loads(text)
    packaged = template(f"free_form/{role}")
    operators = ("operators",) if packaged.parts else ()
    _refuse_others(raw, "version", "system", *operators)
    made = Template(_text_of(raw, "system"), (), _operators_of(raw, packaged))
    used, usual = _slots(made.system), _slots(packaged.system)
    listed = ", ".join(f"<{slot}>" for slot in sorted(usual))
    if unknown := used - usual:
        raise ValueError(f"unknown slot <{min(unknown)}>; the slots are {listed}")
    if missing := [slot for slot in _NECESSARY[role] if slot not in used]:
        raise ValueError(f"system has no slot <{missing[0]}>, which is necessary")
    if absent := [field for field in _FIELDS[role] if field not in made.system]:
        raise ValueError(f"system asks for no field {absent[0]!r}, which the answer must have")
    return made


def _operators_of(raw: dict[str, Any], packaged: Template) -> dict[str, str]:
    if not packaged.parts:
        return {}
    operators = raw.get("operators", {})
    if not isinstance(operators, dict):
        raise ValueError("operators is no table")
    table = {str(key): value for key, value in operators.items()}
    _refuse_others(table, *packaged.parts)
    texts = {name: _text_of(table, name) for name in packaged.parts}
    for name, text in texts.items():
        if slots := _slots(text):
            raise ValueError(f"operator {name!r} has <{min(slots)}>; only system has slots")
    return texts


def _text_of(table: dict[str, Any], key: str) -> str:
    text = table.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} is missing, or no text")
    return text


def _slots(text: str) -> set[str]:
    return {name for name in re.findall(r"<(\w+)>", text) if f"</{name}>" not in text}


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
