"""The packaged seed instructions by form: families that differ, each short enough to read."""

from __future__ import annotations

import tomllib
from itertools import combinations

import pytest

from bigpe.prompts.library import PromptForm
from bigpe.prompts.templates import SeedText, seed_file, seeds_of


def seeds(form: PromptForm) -> tuple[SeedText, ...]:
    return seeds_of(tomllib.loads(seed_file(form)))


@pytest.mark.parametrize("form", ["prose", "tags"])
def test_there_are_four_families_that_differ(form: PromptForm) -> None:
    found = seeds(form)
    assert len(found) == len({seed.name for seed in found}) >= 4
    for seed in found:
        assert 40 <= len(seed.text.split()) <= 150, seed.name
        assert len(seed.text.strip().splitlines()) >= 3, seed.name
        assert not seed.exemplars
    for a, b in combinations([set(seed.text.lower().split()) for seed in found], 2):
        assert len(a & b) < 0.4 * len(a | b)


@pytest.mark.parametrize("form", ["prose", "tags"])
def test_each_keeps_quoted_text_and_language(form: PromptForm) -> None:
    for seed in seeds(form):
        assert {"quot", "language"} <= {w for w in ("quot", "language") if w in seed.text.lower()}


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"seed": 3},
        {"seed": [3]},
        {"seed": [{"name": "a"}]},
        {"seed": [{"name": "a", "text": 3}]},
        {"seed": [{"name": "a", "text": "b", "exemplars": []}]},
        {"seed": [{"name": "a", "text": "b", "exemplar": [{"naive": "x", "rewritten": "y"}]}]},
        {"seed": [], "seeds": []},
    ],
)
def test_another_form_is_no_file_of_seeds(raw: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        seeds_of(raw)
