"""Intervals of means, plain and moderated; tests of paired gains; the pooled noise of one gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bigpe.agents.statistics.agreement import rank_correlation
from bigpe.agents.statistics.intervals import (
    bca_interval,
    mean_interval,
    moderated_mean,
    paired_summary,
    student_quantile,
)
from bigpe.agents.statistics.moments import ScaleEstimate, mean, pooled_squares
from bigpe.agents.statistics.significance import holm, sign_flip_p

NORMAL_QUANTILE = 1.959964
"""Half-width of the central 95% of the standard normal."""
GAINS = st.floats(-1, 1, allow_subnormal=False)
ROUGHLY = {"rel": 1e-9, "abs": 1e-12}
quick = settings(deadline=None, derandomize=True, max_examples=60)


@given(st.lists(GAINS, min_size=2, max_size=30))
@quick
def test_the_mean_interval_is_scipys(values: list[float]) -> None:
    found = mean_interval(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    assert found.mean == pytest.approx(float(np.mean(values)), **ROUGHLY)
    assert found.lo == pytest.approx(found.mean - half, **ROUGHLY)
    assert found.hi == pytest.approx(found.mean + half, **ROUGHLY)


def test_one_value_has_no_bounds_and_none_has_no_mean() -> None:
    assert mean_interval([0.25]) == (0.25, None, None)
    for empty in (lambda: mean([]), lambda: mean_interval([])):
        with pytest.raises(ValueError, match="no values"):
            empty()


def test_quantiles() -> None:
    assert student_quantile(0.95, 4) == pytest.approx(2.776445, abs=1e-6)
    assert student_quantile(0.95, 1e7) == pytest.approx(NORMAL_QUANTILE, abs=1e-5)


@given(st.lists(GAINS, min_size=1, max_size=10), st.floats(0.01, 1))
@quick
def test_a_moderated_interval_lies_between_prior_and_data(values: list[float], v: float) -> None:
    figures = (mean(values), len(values), pooled_squares([values]))
    faithful = moderated_mean(*figures, v, 1e9)
    half = NORMAL_QUANTILE * math.sqrt(v / len(values))
    assert faithful.hi == pytest.approx(mean(values) + half, rel=1e-4, abs=1e-4)
    if len(values) > 1:
        assert moderated_mean(*figures, v, 1e-12) == pytest.approx(
            mean_interval(values), rel=1e-4, abs=1e-4
        )
    assert moderated_mean(*figures, None, 4.0) == (mean(values), None, None)


@given(st.lists(st.lists(GAINS, max_size=5), max_size=6), st.randoms(use_true_random=False))
@quick
def test_pooling_ignores_order_shifts_and_single_values(groups: list[list[float]], rng) -> None:
    found = pooled_squares(groups)
    moved = [[value + i for value in group] for i, group in enumerate(groups)]
    rng.shuffle(moved)
    again = pooled_squares([*moved, [7.0], []])
    assert again.df == found.df
    assert again.total == pytest.approx(found.total, abs=1e-9)
    assert (found.variance is None) == (found.df == 0)


@given(st.floats(1e-4, 1), st.floats(1, 50), st.lists(st.lists(GAINS, max_size=5), max_size=6))
@quick
def test_the_scale_is_between_the_pilots_and_the_gains(
    sigma0: float, nu0: float, groups: list[list[float]]
) -> None:
    pilot = ScaleEstimate(sigma0, nu0)
    assert pilot.sigma == pytest.approx(sigma0)
    squares = pooled_squares(groups)
    later, pooled = pilot.with_squares(squares), squares.variance
    ends = sorted((sigma0, sigma0 if pooled is None else math.sqrt(pooled)))
    assert ends[0] - 1e-12 <= later.sigma <= ends[1] + 1e-12
    assert later.with_squares(squares) == later


def test_the_scale_tends_to_the_truth() -> None:
    rng = np.random.default_rng(5)
    groups = [list(rng.normal(rng.normal(0, 3), 0.02, 3)) for _ in range(400)]
    assert ScaleEstimate(0.1, 10).with_squares(pooled_squares(groups)).sigma == pytest.approx(
        0.02, rel=0.2
    )


@given(st.lists(st.lists(GAINS, min_size=1, max_size=3), min_size=5, max_size=25))
@settings(deadline=None, derandomize=True, max_examples=15)
def test_the_paired_summary_is_of_prompts_not_of_seeds(groups: list[list[float]]) -> None:
    found = paired_summary({f"p{i:02}": group for i, group in enumerate(groups)})
    means = [mean(group) for group in groups]
    assert found.n == len(groups)
    assert found.mean == pytest.approx(mean(means), **ROUGHLY)
    assert found == paired_summary({f"p{i:02}": group * 2 for i, group in enumerate(groups)})
    assert found.lo is not None and found.hi is not None
    assert min(means) - 1e-9 <= found.lo <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.hi <= max(means) + 1e-9
    assert 0 <= found.win_rate <= 1 and found.p is not None and 0 < found.p <= 1


def test_the_paired_summary_of_little() -> None:
    assert paired_summary({"a": [0.5]})[:6] == (1, 0.5, None, None, None, None)
    assert paired_summary({"a": [0.5], "b": [0.7]}).lo is None
    same = paired_summary({str(i): [0.25] for i in range(6)})
    assert (same.lo, same.hi, same.win_rate) == (0.25, 0.25, 1.0)
    nothing = paired_summary({str(i): [0.0] for i in range(6)})
    assert (nothing.p, nothing.win_rate, nothing.ties) == (1.0, 0.5, 6)
    with pytest.raises(ValueError, match="no values"):
        paired_summary({"a": []})


def test_sign_flips_are_exact_where_they_can_be() -> None:
    # All 2^6 signs: only two of them are as extreme as six gains.
    assert sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 64)
    assert sign_flip_p([0.1]) is None


def test_the_bootstrap_interval_covers() -> None:
    rng = np.random.default_rng(17)
    hits = 0
    for trial in range(120):
        lo, hi = bca_interval(list(rng.exponential(1.0, 25) - 1.0), seed=trial)
        assert lo is not None and hi is not None
        hits += lo <= 0 <= hi
    assert hits / 120 > 0.86


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@quick
def test_holm_is_ordered_and_between_p_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a + 1e-15 and a <= min(1.0, len(p_values) * p) + 1e-15
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_holms_own_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=30, unique=True))
def test_rank_correlation_asks_for_the_order_alone(values: list[int]) -> None:
    assert rank_correlation([(x, x**3) for x in values]) == pytest.approx(1)
    assert rank_correlation([(x, -x) for x in values]) == pytest.approx(-1)
    assert rank_correlation([(x, 1) for x in values]) is None
    assert rank_correlation([(x, x) for x in values[:2]]) is None
