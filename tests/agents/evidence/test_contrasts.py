"""Contrasts: only within one prompt and seed, and only between instructions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigpe.agents.evidence.contrasts import (
    BETWEEN,
    alike,
    contrasts,
    gain_over,
    prompts_won,
    same_rewrites,
    term_tallies,
)
from bigpe.agents.evidence.mixed_model import PairedComparison

quick = settings(deadline=None, derandomize=True, max_examples=60)
ARMS = ("a" * 64, "b" * 64, "c" * 64, "professional")
PAIR = st.builds(
    PairedComparison,
    naive=st.sampled_from(["a cat", "a dog"]),
    rewrite=st.sampled_from(["a cat, oil", "a cat at dawn", "a dog, ink"]),
    seed=st.integers(0, 2),
    gain=st.integers(-3, 3).map(float),
    arm=st.sampled_from(ARMS),
    fallback=st.booleans(),
)
PAIRS = st.lists(PAIR, max_size=24)


def pair(
    gain: float, arm: str = ARMS[0], *, naive: str = "a cat", seed: int = 0
) -> PairedComparison:
    return PairedComparison(
        naive=naive, rewrite=f"{naive} by {arm[0]} {gain}", seed=seed, gain=gain, arm=arm
    )


@quick
@given(PAIRS, st.integers(0, 4))
def test_a_contrast_is_of_one_prompt_and_seed_and_no_pair_lies_outside(
    pairs: list[PairedComparison], most: int
) -> None:
    tasks = {("a cat", 0), ("a cat", 1), ("a dog", 0)}
    found = contrasts(pairs, tasks, most=most)
    assert len(found) <= most and [c.spread for c in found] == sorted(
        (c.spread for c in found), reverse=True
    )
    for contrast in found:
        best, worst = contrast.best, contrast.worst
        assert (best.naive, best.seed) == (worst.naive, worst.seed) in tasks
        assert best.rewrite != worst.rewrite and contrast.spread >= 0
        for other in pairs:
            same = (other.naive, other.seed) == (best.naive, best.seed)
            if same and other.arm != "professional" and not other.fallback:
                assert worst.gain <= other.gain <= best.gain
        gains = [pair.gain for pair in (best, *contrast.between, worst)]
        assert gains == sorted(gains, reverse=True) and len(gains) <= BETWEEN + 2
        texts = {pair.rewrite for pair in (best, *contrast.between, worst)}
        assert len(texts) == len(gains)


def test_a_tally_compares_within_a_prompt_and_averages_prompts() -> None:
    def oil(gain: float, text: str, naive: str = "a cat", seed: int = 0) -> PairedComparison:
        return pair(gain, naive=naive, seed=seed).model_copy(update={"rewrite": text})

    pairs = [
        oil(5.0, "a cat, oil paint"), oil(3.0, "a cat, oil paint, dawn"), oil(1.0, "a cat, oily"),
        oil(9.0, "a cat, oil paint", seed=1),  # nothing to compare with at that seed
        oil(1.0, "a dog, oil paint", "a dog"), oil(2.0, "a dog, ink", "a dog"),
        pair(50.0, "professional"),
    ]  # fmt: skip
    (found,) = term_tallies(pairs, ["oil paint", "neon"])
    assert (found.term, found.prompts, found.better, found.mean) == ("oil paint", 2, 1, 1.0)


@quick
@given(PAIRS)
def test_a_tally_has_no_more_prompts_than_there_are(pairs: list[PairedComparison]) -> None:
    for tally in term_tallies(pairs, ["oil", "dawn", "ink"]):
        assert 0 <= tally.better <= tally.prompts <= len({pair.naive for pair in pairs})


@quick
@given(PAIRS)
def test_a_difference_changes_its_sign_with_the_direction(pairs: list[PairedComparison]) -> None:
    there, back = gain_over(pairs, ARMS[0], ARMS[1]), gain_over(pairs, ARMS[1], ARMS[0])
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert there.prompts == back.prompts and there.mean == pytest.approx(-back.mean)


def test_a_difference_is_on_equal_prompts_and_seeds_only() -> None:
    child, parent = ARMS[0], ARMS[1]
    pairs = [
        pair(2.0, child),
        pair(1.0, parent),
        pair(5.0, child, naive="a dog"),
        pair(1.0, parent, naive="a dog"),
        pair(9.0, child, seed=1),
    ]
    found = gain_over(pairs, child, parent)
    assert found is not None and (found.prompts, found.mean) == (2, 2.5)
    assert gain_over(pairs, child, ARMS[2]) is None


WON: Sequence[tuple[list[PairedComparison], dict[str, tuple[str, ...]]]] = (
    ([pair(1.0), pair(2.0, ARMS[1])], {ARMS[1]: ("a cat",)}),
    ([pair(1.0), pair(1.0, ARMS[1])], {}),
    ([pair(1.0)], {}),
    ([pair(1.0), pair(9.0, "professional")], {}),
)


@pytest.mark.parametrize(("pairs", "expected"), WON)
def test_a_prompt_is_won_against_another_instruction(
    pairs: list[PairedComparison], expected: dict[str, tuple[str, ...]]
) -> None:
    assert prompts_won(pairs) == expected


LIST = "a cat, oil painting, golden light, vivid colors, close view, clean background, sharp focus"


@pytest.mark.parametrize(
    ("own", "negative", "expected"),
    [
        (LIST, "", True),
        (LIST.upper().replace(",", " ,") + ".", "", True),
        (LIST.replace("golden", "pale"), "", False),
        (LIST, "fog", False),
        (LIST + ", fog", "", False),
        (LIST * 6, "", False),
    ],
)
def test_rewrites_are_the_same_by_their_words(own: str, negative: str, expected: bool) -> None:
    parent = pair(0.1).model_copy(update={"rewrite": LIST})
    assert same_rewrites([parent], ARMS[0], {("a cat", 0): (own, negative)}) is expected


def test_rewrites_of_other_prompts_seeds_and_instructions_decide_nothing() -> None:
    parent = pair(0.1).model_copy(update={"rewrite": LIST})
    same = (LIST, "")
    assert not same_rewrites([parent], ARMS[1], {("a cat", 0): same})
    assert not same_rewrites([parent], ARMS[0], {("a cat", 1): same})
    assert not same_rewrites([parent], ARMS[0], {})
    few = {("a cat", 0): same, ("a dog", 0): same, ("a dog", 1): same}
    assert not same_rewrites([parent], ARMS[0], few), "less than half can be compared"
    fallback = parent.model_copy(update={"fallback": True})
    assert not same_rewrites([fallback], ARMS[0], {("a cat", 0): same})


def test_one_other_ideograph_is_a_difference() -> None:
    text = (
        "一只猫，金色的夕阳光线，细腻的油画笔触，浅景深，写实，干净的背景，柔和的色彩，中近景构图"
    )
    assert alike(text, f"{text}。") and not alike(text, text.replace("金色", "银色"))
