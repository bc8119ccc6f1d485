"""The confidence sequence: its closed form, its invariances, and how often it is right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from support.paths import ROOT

from bigpe.agents.statistics.confidence_sequence import (
    FIRST_LOOK,
    PRIOR_VARIANCE,
    mixture_radius,
    sequence_bounds,
    sequence_state,
    sign_e,
)

GOLDEN = ROOT / "docs/figures/coverage.jsonl"
NOMINAL = 0.95
OUTSIDE = "out of reach"
VALUES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=FIRST_LOOK, max_size=40)
quick = settings(deadline=None, derandomize=True, max_examples=50)


def bayes_factor(t: float, n: int) -> float:
    """The mixture of noncentral t densities over the central one, by quadrature."""
    root = math.sqrt(PRIOR_VARIANCE)

    def mixed(delta: float) -> float:
        return float(stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) * stats.norm.pdf(delta, 0, root))

    return integrate.quad(mixed, -6 * root, 6 * root)[0] / float(stats.t.pdf(t, n - 1))


@pytest.mark.parametrize("n", [8, 20, 60])
def test_the_radius_is_where_the_bayes_factor_reaches_twenty(n: int) -> None:
    radius = float(mixture_radius(np.array([n]))[0])
    assert bayes_factor(radius * math.sqrt(n), n) == pytest.approx(20, rel=1e-3)


@given(VALUES, st.floats(-3, 3), st.floats(0.1, 5))
@quick
def test_bounds_move_and_stretch_with_the_values(
    values: list[float], shift: float, scale: float
) -> None:
    spread = max(values) - min(values)
    state = sequence_state(values)
    moved = sequence_state([shift + scale * value for value in values])
    tolerance = {"abs": 1e-4 * (1 + spread), "rel": 1e-4}
    assert moved.lo == pytest.approx(shift + scale * state.lo, **tolerance)
    assert moved.hi == pytest.approx(shift + scale * state.hi, **tolerance)


@given(VALUES)
@quick
def test_the_mirror_image_has_mirrored_bounds(values: list[float]) -> None:
    state, mirrored = sequence_state(values), sequence_state([-value for value in values])
    assert mirrored.lo == pytest.approx(-state.hi, abs=1e-9)
    assert mirrored.hi == pytest.approx(-state.lo, abs=1e-9)


@given(VALUES)
@quick
def test_it_is_never_narrower_than_the_mixture_and_holds_the_mean(values: list[float]) -> None:
    array = np.array([values])
    lo, hi = sequence_bounds(array)
    plain_lo, plain_hi = sequence_bounds(array, skewed=False)
    assert (lo <= plain_lo + 1e-12).all() and (hi >= plain_hi - 1e-12).all()
    state = sequence_state(values)
    assert state.lo <= state.mean + 1e-12 and state.mean <= state.hi + 1e-12
    assert (float(lo[0, -1]), float(hi[0, -1])) == (state.lo, state.hi)


def test_it_says_nothing_before_the_first_look_and_narrows_after_it() -> None:
    few = sequence_state([0.5] * (FIRST_LOOK - 1))
    assert math.isinf(few.lo) and math.isinf(few.half_width) and not few.excludes_zero
    rng = np.random.default_rng(2)
    values = list(rng.normal(0.5, 1.0, 200))
    widths = [sequence_state(values[:n]).half_width for n in (FIRST_LOOK, 20, 60, 200)]
    assert widths == sorted(widths, reverse=True)
    assert sequence_state(values).excludes_zero
    with pytest.raises(ValueError, match="no values"):
        sequence_state([])


def test_signs_count_gains_against_losses() -> None:
    assert sign_e([]) == 1.0 and sign_e([0.0] * 9) == 1.0
    # Beta-binomial: 10 of 10 has e-value 2^10 / 11.
    assert sign_e([1.0] * 10) == pytest.approx(2**10 / 11)
    assert sign_e([-1.0] * 10) == sign_e([1.0] * 10)
    assert sign_e([1.0, -1.0] * 5) < 1


def test_sign_e_values_average_at_most_one() -> None:
    total = sum(
        math.comb(12, k) * 0.5**12 * sign_e([1.0] * k + [-1.0] * (12 - k)) for k in range(13)
    )
    assert total == pytest.approx(1.0)


def test_a_mean_that_few_values_carry_is_noticed() -> None:
    """Far more often than values that the sequence covers in 95%."""
    rng = np.random.default_rng(4)

    def noticed(values: Any) -> float:
        return float(np.mean([sequence_state(row.tolist()).too_skewed for row in values]))

    assert noticed((rng.random((200, 60)) < 0.05) + rng.normal(0, 0.05, (200, 60))) > 0.5
    assert noticed(rng.lognormal(0, 1, (200, 60))) < 0.35
    assert noticed(rng.exponential(size=(200, 60))) < 0.05
    assert noticed(rng.normal(size=(200, 60))) == 0
    assert sequence_state([0.1] * 12).skewness == 0


def test_equal_values_bound_nothing() -> None:
    """All of 30 prompts kept their picture: that says nothing of the thirty-first."""
    same = sequence_state([0.0] * 30)
    assert math.isinf(same.half_width) and not same.excludes_zero
    assert not math.isinf(sequence_state([*[0.0] * 30, 0.1]).half_width)
