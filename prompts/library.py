"""The packaged prompt sets, written for bigpe, CC0-1.0 (data/DATA.md says how)."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple


class ProfessionalPrompt(NamedTuple):
    """A prompt as practised users write them."""

    text: str
    source: str
    license: str
    """An SPDX identifier."""


@cache
def naive_prompts(name: Literal["world", "general"]) -> tuple[str, ...]:
    """Naive prompts in the embedded world's vocabulary, or about anything; no two are equal."""
    text = (files("bigpe.prompts") / "data" / f"naive_{name}.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if line)


@cache
def professional_prompts() -> tuple[ProfessionalPrompt, ...]:
    """The packaged professional prompts; no two are equal."""
    text = (files("bigpe.prompts") / "data" / "professional.jsonl").read_text("utf-8")
    return tuple(ProfessionalPrompt(**json.loads(line)) for line in text.splitlines())
