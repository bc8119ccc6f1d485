"""The packaged prompt sets, written for bigpe, CC0-1.0 (data/DATA.md says how)."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

PromptForm = Literal["prose", "tags"]
"""Whole sentences, or short phrases between commas."""
ProfessionalSet = Literal["world", "prose", "tags"]
"""In the embedded world's vocabulary, or about anything in one of the two forms."""
PROFESSIONAL_SETS: tuple[ProfessionalSet, ...] = ("world", "prose", "tags")
LICENSE = "CC0-1.0"


class ProfessionalPrompt(NamedTuple):
    """A prompt as practised users write them."""

    text: str
    source: str
    """"bigpe", "bigpe prose" or "bigpe tags"."""
    license: str
    """An SPDX identifier."""
    id: str = ""
    """Like "prose-001"; empty in the set of the world."""
    subject: str = ""
    """A short noun phrase; empty in the set of the world."""


def _lines(name: str) -> list[str]:
    text = (files("bigpe.prompts") / "data" / name).read_text("utf-8")
    return [line for line in text.splitlines() if line]


@cache
def naive_prompts(name: Literal["world", "general"]) -> tuple[str, ...]:
    """Naive prompts in the embedded world's vocabulary, or about anything; no two are equal."""
    return tuple(_lines(f"naive_{name}.txt"))


@cache
def professional_prompts(name: ProfessionalSet) -> tuple[ProfessionalPrompt, ...]:
    """The packaged professional prompts of a set; no two are equal."""
    if name == "world":
        records = map(json.loads, _lines("professional.jsonl"))
        return tuple(ProfessionalPrompt(**record) for record in records)
    rows: list[dict[str, Any]] = [json.loads(line) for line in _lines("professional_general.jsonl")]
    return tuple(
        ProfessionalPrompt(row["text"], source_of(name), LICENSE, row["id"], row["subject"])
        for row in rows
        if row["form"] == name
    )


def source_of(name: ProfessionalSet) -> str:
    """The source under which a project's database has the prompts of a packaged set."""
    return "bigpe" if name == "world" else f"bigpe {name}"
