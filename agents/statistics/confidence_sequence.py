"""Confidence sequences: intervals of a mean that are valid at any number of looks.

An interval for a fixed number of values is wrong more often than it says when somebody stops at
the first one that excludes 0. A confidence sequence holds at all numbers of values at once, so
also at the one where somebody stops, for whatever reason.

The sequence is the wider of two at each step. The first inverts the Student-t mixture e-process:
the Bayes factor of effect sizes delta ~ N(0, `PRIOR_VARIANCE`) against the candidate mean, with the
right Haar prior on sigma, which Ville's inequality bounds (Wang & Ramdas 2025, Anytime-valid
t-tests and confidence sequences for Gaussian means with unknown variance; Gönen et al. 2005 for
the closed form). It is exact for normal differences and misses too often where they are skew. The
second therefore inverts the same bound after Hall's cubic transformation (Hall 1992, On the
removal of skewness by transformation), with more than the sample's skewness and with less of it,
because few values show less than there is, or none yet. It is no theorem but was measured:
scripts/simulations/simulate_coverage.py, docs/figures/coverage.jsonl and docs/decisions/0010 say
how well it does, and where no interval can: a mean carried by values too rare to have been seen.

Written here because confseq has no mixture for an unknown variance and compiles C++.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts load on first use, which most commands do not need
from numpy.typing import NDArray

from bigpe.agents.statistics.intervals import LEVEL
from bigpe.agents.statistics.significance import TIE

Values = NDArray[Any]

FIRST_LOOK = 12
"""Minimum number of values for an interval: fewer values may not show a skewness."""
PRIOR_VARIANCE = 1.0
"""Of the effect size, mean / standard deviation; decides where the sequence is tightest."""
SKEW_FACTOR = 1.25
"""By how much a sample's skewness is taken to understate."""
SKEW_ERRORS = 0.5
"""Standard errors, sqrt(6 / n), by which a skewness is taken to be larger, and smaller."""
MOST_SKEWED = 3.5
"""Skewness of a sample from which on the mean may rest on values too rare to be covered. Of 40
lognormal values of sigma 1, which are covered, it has a median of 2.2; of 40 of which one in twenty
counts, 3.8."""
_A, _B = 1 / 3, 1 / 6
"""Hall's constants for the studentised mean."""


class SequenceState(NamedTuple):
    """What the confidence sequence says after n values."""

    n: int
    mean: float
    lo: float
    hi: float
    """Bounds; infinite before `FIRST_LOOK` values, and while all are equal."""
    sign_e: float
    """e-value of the signs alone, >= 0; against 'gains and losses are equally likely'."""
    skewness: float = 0.0
    """Of the values; 0 for equal ones."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0."""
        return self.lo > 0 or self.hi < 0

    @property
    def too_skewed(self) -> bool:
        """Whether the values look like those that it covers less often than it says."""
        return abs(self.skewness) > MOST_SKEWED

    @property
    def half_width(self) -> float:
        """Half the interval; infinite before `FIRST_LOOK` values."""
        return (self.hi - self.lo) / 2


def sequence_state(values: Sequence[float]) -> SequenceState:
    """The sequence after these values, in the order they came. ValueError for none.

    The bounds at each number of values hold together with probability `LEVEL`.
    """
    if not values:
        raise ValueError("a confidence sequence of no values")
    array = np.array(values)[None, :]
    lo, hi = (bound[0, -1] for bound in sequence_bounds(array))
    spread = float(array.std())
    third = float(((array - array.mean()) ** 3).mean())
    skewness = third / spread**3 if spread > TIE else 0.0
    return SequenceState(
        len(values), float(array.mean()), float(lo), float(hi), sign_e(values), skewness
    )


def sequence_bounds(
    values: Values, *, level: float = LEVEL, skewed: bool = True
) -> tuple[Values, Values]:
    """Lower and upper bounds after each value: from (runs, n) to two of (runs, n).

    `skewed` False leaves the skewness correction out, to show what it does.
    """
    n = np.arange(1, values.shape[1] + 1)
    # Shifted by the first value: sums of squares of values far from 0 would cancel.
    shift = values[:, :1]
    ones, twos, threes = (np.cumsum((values - shift) ** k, axis=1) / n for k in (1, 2, 3))
    variance = np.maximum(twos - ones**2, 0.0)
    s = np.sqrt(variance * n / np.maximum(n - 1, 1))
    radius = mixture_radius(n, level)
    low, high = -radius * np.ones_like(s), radius * np.ones_like(s)
    if skewed:
        third = threes - 3 * ones * twos + 2 * ones**3
        skewness = SKEW_FACTOR * third / np.maximum(variance, TIE**2) ** 1.5
        error = SKEW_ERRORS * np.sqrt(6 / n)
        for assumed in (skewness - error, skewness + error):
            below, above = _hall(radius, assumed, n)
            low, high = np.minimum(low, below), np.maximum(high, above)
    # Equal values give no estimate of the spread.
    bounded = (n >= FIRST_LOOK) & (variance > 0)
    centre = ones + shift
    with np.errstate(invalid="ignore"):
        lo = np.where(bounded, centre - s * high, -np.inf)
        hi = np.where(bounded, centre - s * low, np.inf)
    return lo, hi


def mixture_radius(n: Values, level: float = LEVEL) -> Values:
    """Half-width of the t mixture's interval after n values, in sample standard deviations.

    The Bayes factor is (1 + n g)^(-1/2) ((1 + u) / (1 + u / (1 + n g)))^(n/2) with
    u = t^2 / (n - 1); solved for the u at which it reaches 1 / (1 - level). Infinite where no
    evidence would be enough.
    """
    spread = 1 + n * PRIOR_VARIANCE
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        limit = (np.sqrt(spread) / (1 - level)) ** (2 / n)
        u = np.where(limit < spread, (limit - 1) / (1 - limit / spread), np.inf)
        return np.sqrt(u * np.maximum(n - 1, 0) / n)


def _hall(radius: Values, skewness: Values, n: Values) -> tuple[Values, Values]:
    """Where Hall's transform of (mean - mu) / s reaches -radius and +radius."""
    a = _A * np.where(np.abs(skewness) < 1e-6, 1e-6, skewness)
    offset = _B * skewness / n
    with np.errstate(invalid="ignore"):
        below = (np.cbrt(1 + 3 * a * (-radius - offset)) - 1) / a
        above = (np.cbrt(1 + 3 * a * (radius - offset)) - 1) / a
    return below, above


def sign_e(values: Sequence[float]) -> float:
    """e-value of the signs: uniform mixture over the chance of a gain, against one half.

    B(1 + gains, 1 + losses) 2^n (Robbins 1970; ties do not count). Valid at any stopping time for
    independent differences of any distribution whose median is 0; at least 20 is significant.
    """
    gains = sum(value > TIE for value in values)
    losses = sum(value < -TIE for value in values)
    return math.exp(
        float(scipy.special.betaln(1 + gains, 1 + losses)) + (gains + losses) * math.log(2)
    )
