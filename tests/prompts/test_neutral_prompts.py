"""What every run starts with gives nothing away: it names none of the embedded world's terms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.world_terms import UTILITY, WORLD, matcher

from bigpe.prompts.templates import seed_texts, template

VALUED = matcher([*UTILITY])
SUBJECTS = matcher([name for names in WORLD.SUBJECTS.values() for name in names])


def texts() -> Iterator[tuple[str, str]]:
    for role in ("generator", "gradient", "modifier"):
        made = template(role)
        yield role, made.system
        for example in made.examples:
            yield role, example.user
            yield role, example.assistant
    for seed in seed_texts():
        yield seed.name, seed.text
        for naive, rewrite in seed.exemplars:
            yield seed.name, naive
            yield seed.name, rewrite


@pytest.mark.parametrize(("where", "text"), list(texts()))
def test_no_template_or_seed_instruction_names_what_the_run_is_to_find(
    where: str, text: str
) -> None:
    assert VALUED.findall(text.lower()) == [], where
    assert SUBJECTS.findall(text.lower()) == [], where


def test_the_check_can_fail() -> None:
    assert VALUED.findall("a bowl, golden hour, oil painting") == ["golden hour", "oil painting"]


def test_every_seed_shows_what_it_asks_for() -> None:
    seeds = seed_texts()
    assert len({seed.name for seed in seeds}) == len(seeds) >= 2
    for seed in seeds:
        assert len(seed.exemplars) == 3
        assert all(rewrite.startswith(naive) for naive, rewrite in seed.exemplars)
