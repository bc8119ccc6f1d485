"""The packaged prompt sets: size, coverage, licence, and that they give nothing away."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files

import pytest
from support.world_terms import UTILITY, WORLD, matcher

from bigpe.prompts.library import naive_prompts, professional_prompts
from bigpe.services.prompt_data.splits import normal_form

PROFESSIONAL = [prompt.text for prompt in professional_prompts("world")]


def mentions(names: tuple[str, ...], texts: list[str]) -> int:
    return sum(bool(matcher(list(names)).search(text)) for text in texts)


def frequencies() -> Counter[str]:
    pattern = matcher(list(UTILITY))
    return Counter(term for text in PROFESSIONAL for term in pattern.findall(text))


def mean_ratio() -> float:
    """Mean frequency of liked terms by mean frequency of disliked ones."""
    count = frequencies()
    liked = [count[term] for term, utility in UTILITY.items() if utility > 0]
    disliked = [count[term] for term, utility in UTILITY.items() if utility < 0]
    return (sum(liked) / len(liked)) / (sum(disliked) / len(disliked))


@pytest.mark.parametrize(("name", "least"), [("world", 200), ("general", 100)])
def test_there_are_enough_naive_prompts_and_no_two_say_the_same(name: str, least: int) -> None:
    prompts = naive_prompts(name)
    assert len(prompts) >= least
    assert len({normal_form(prompt) for prompt in prompts}) == len(prompts)
    assert all(1 <= len(prompt.split()) <= 8 for prompt in prompts)


def test_naive_prompts_name_no_light_style_framing_or_quality() -> None:
    pattern = matcher(list(UTILITY))
    for prompt in naive_prompts("world") + naive_prompts("general"):
        assert not pattern.search(prompt), prompt


def test_naive_world_prompts_use_only_the_worlds_subjects_and_places() -> None:
    names = [n for t in (WORLD.SUBJECTS, WORLD.PLACES) for terms in t.values() for n in terms]
    small = set("a an the my in on at by near of picture big little old small lonely".split())
    for prompt in naive_prompts("world"):
        rest = matcher(names).sub(" ", prompt)
        assert set(re.findall(r"\w+", rest)) <= small, prompt


def test_naive_world_prompts_cover_subjects_and_places_evenly_and_mix_them() -> None:
    prompts = list(naive_prompts("world"))
    subjects = {key: mentions(names, prompts) for key, names in WORLD.SUBJECTS.items()}
    places = {key: mentions(names, prompts) for key, names in WORLD.PLACES.items()}
    assert min(subjects.values()) >= 12 and max(subjects.values()) <= 2 * min(subjects.values())
    assert min(places.values()) >= 24 and max(places.values()) <= 2 * min(places.values())
    first = [key for key, names in WORLD.SUBJECTS.items() if mentions(names, prompts[:48])]
    assert len(first) >= 14
    every_place = tuple(name for names in WORLD.PLACES.values() for name in names)
    assert len(prompts) - mentions(every_place, prompts) >= 20


def test_professional_prompts_are_ours_many_and_of_useful_length() -> None:
    assert len(PROFESSIONAL) >= 320 and len(set(PROFESSIONAL)) == len(PROFESSIONAL)
    assert {(p.source, p.license) for p in professional_prompts("world")} == {("bigpe", "CC0-1.0")}
    assert all(8 <= len(text.split()) <= 40 for text in PROFESSIONAL)


def test_professional_prompts_cover_subjects_places_and_more() -> None:
    for table, least in ((WORLD.SUBJECTS, 10), (WORLD.PLACES, 10)):
        for key, names in table.items():
            assert mentions(names, PROFESSIONAL) >= least, key
            assert all(mentions((name,), PROFESSIONAL) for name in names), key
    every_subject = tuple(name for names in WORLD.SUBJECTS.values() for name in names)
    assert len(PROFESSIONAL) - mentions(every_subject, PROFESSIONAL) >= 95


def test_professional_prompts_hold_every_term_and_do_not_give_the_taste_away() -> None:
    count = frequencies()
    assert set(count) == set(UTILITY)
    assert max(count.values()) <= 1.5 * min(count.values())
    assert 0.5 <= mean_ratio() <= 2


def test_the_data_note_states_licence_counts_and_the_ratio() -> None:
    note = (files("bigpe.prompts") / "data" / "DATA.md").read_text("utf-8")
    assert "CC0-1.0" in note and f"**{mean_ratio():.2f}**" in note
    for name, count in (
        ("naive_world.txt", len(naive_prompts("world"))),
        ("naive_general.txt", len(naive_prompts("general"))),
        ("professional.jsonl", len(PROFESSIONAL)),
    ):
        assert re.search(rf"`{re.escape(name)}` \| {count} ", note), (name, count)
