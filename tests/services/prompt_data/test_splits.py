"""Splits: a partition, near-duplicates together, nobody moved by strangers."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz
from support.work_counters import lines_run, peak_bytes

from bigpe.prompts.library import naive_prompts
from bigpe.services.prompt_data.splits import FEWEST_GROUPS, NEAR, normal_form, split

WORDS = "cat owl fox castle rocket beach forest desert snow city a the in on".split()
prompt = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join), st.text()
)
prompts = st.lists(prompt, max_size=30)


def distinct(count: int, seed: int) -> list[str]:
    """Prompts of random letters: no two are near."""
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=16)) for _ in range(count)]


@given(prompts)
def test_every_prompt_has_one_place_in_the_order_given(given_prompts: list[str]) -> None:
    places = split(given_prompts).places
    assert list(places) == list(dict.fromkeys(given_prompts))
    assert set(places.values()) <= {"train", "validation", "test"}


@given(prompts, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(given_prompts: list[str], rng: random.Random) -> None:
    shuffled = given_prompts * 2
    rng.shuffle(shuffled)
    assert split(shuffled).places == split(given_prompts).places


@given(prompts)
def test_near_duplicates_are_never_apart(given_prompts: list[str]) -> None:
    places = split(given_prompts).places
    for item in places:
        for other in places:
            forms = normal_form(item), normal_form(other)
            if forms[0] == forms[1] or fuzz.token_sort_ratio(*forms) >= NEAR:
                assert places[item] == places[other]


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_strangers_move_nobody_in_a_settled_set(seed: int, more: int) -> None:
    own = distinct(25, seed)
    before = split(own)
    after = split([*own, *distinct(more, seed + 1)]).places
    if before.warning is None:
        assert before.places == {text: after[text] for text in own}


@given(st.integers(0, 10**6), st.integers(FEWEST_GROUPS, 30))
def test_no_split_is_empty_from_the_fewest_groups_on(seed: int, count: int) -> None:
    result = split(distinct(count, seed))
    assert result.groups == count
    assert set(result.places.values()) == {"train", "validation", "test"}


@given(st.integers(0, 10**6), st.integers(1, FEWEST_GROUPS - 1))
def test_too_few_prompts_are_all_train_with_a_warning(seed: int, count: int) -> None:
    result = split(distinct(count, seed) * 2)
    assert set(result.places.values()) == {"train"}
    assert result.warning is not None and f"only {count} different" in result.warning


def test_a_borrowed_place_is_said() -> None:
    results = [split(distinct(6, seed)) for seed in range(60)]
    warned = [result for result in results if result.warning]
    assert warned and all("borrowed" in str(result.warning) for result in warned)
    assert split(distinct(100, 1)).warning is None and split([]).warning is None


def test_variants_of_one_prompt_are_one_group() -> None:
    variants = [
        "a cat on the beach",
        "Cat, beach!",
        "the beach, a cat",
        "picture of a CAT at beach",
    ]
    assert split([*variants, *distinct(20, 3)]).groups == 21
    assert len({normal_form(text) for text in ("🐱", "🐶", "!?", "the", "猫", "犬")}) == 6


def test_shares_hold_over_many_prompts_and_zero_shares_stay_empty() -> None:
    counts = Counter(split(distinct(2000, 5)).places.values())
    assert abs(counts["train"] - 800) < 90 and abs(counts["validation"] - 400) < 75
    assert set(split(distinct(20, 6), shares=(2, 0, 1)).places.values()) == {"train", "test"}
    with pytest.raises(ValueError, match="shares"):
        split(["a"], shares=(0, 0, 0))


def test_the_packaged_prompts_split_as_wanted() -> None:
    for name in ("world", "general"):
        result = split(naive_prompts(name))
        counts = Counter(result.places.values())
        assert result.warning is None and result.groups > 0.9 * len(result.places)
        assert min(counts.values()) >= 0.12 * len(result.places)


def test_work_and_memory_grow_with_the_prompts_linearly() -> None:
    rng = random.Random(7)
    words = distinct(300, 8)
    many = [" ".join(rng.choices(words, k=6)) for _ in range(2000)]
    for effort in (lines_run, peak_bytes):
        assert effort(lambda: split(many)) < 5 * effort(lambda: split(many[:500]))
