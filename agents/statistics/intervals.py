"""Confidence intervals of mean gains. Pure; units are those of the values given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy  # its parts load on first use: one second that most commands do not need

from bigpe.agents.statistics.moments import SumOfSquares, mean, pooled_squares
from bigpe.agents.statistics.significance import RESAMPLES, TIE, sign_flip_p

LEVEL = 0.95
"""Default confidence level of an interval."""
FEWEST_FOR_BCA = 5
"""Minimum number of values for a bootstrap interval; fewer give too few distinct samples."""


class Interval(NamedTuple):
    """A mean and its confidence interval. A bound is None if the data do not determine it."""

    mean: float
    lo: float | None
    """None: minus infinity."""
    hi: float | None
    """None: plus infinity."""


@lru_cache(maxsize=4096)
def student_quantile(level: float, df: float) -> float:
    """Half-width of the central `level` of Student's t with `df` > 0, in standard errors."""
    return float(scipy.special.stdtrit(df, 0.5 + level / 2))


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean (Student 1908). ValueError for no values.

    One value has a mean and no bounds; equal values have an interval of no width.
    """
    centre = mean(values)
    n = len(values)
    if n < 2:
        return Interval(centre, None, None)
    squares = pooled_squares([values])
    half = student_quantile(level, n - 1) * math.sqrt(squares.total / (n - 1) / n)
    return Interval(centre, centre - half, centre + half)


def moderated_mean(
    centre: float,
    n: int,
    squares: SumOfSquares,
    prior_variance: float | None,
    prior_df: float,
) -> Interval:
    """Student's t interval with a variance shrunk to `prior_variance`, worth `prior_df` values.

    s^2 = (d0 s0^2 + SS) / (d0 + n - 1), t with d0 + n - 1 degrees of freedom (Smyth 2004, the
    moderated t). A plain variance of few values is unreliable: an arm with similar gains by chance
    would seem certain. No bounds without a prior. `n` and `squares` are those of the values.
    """
    if prior_variance is None:
        return Interval(centre, None, None)
    df = prior_df + squares.df
    variance = (prior_df * prior_variance + squares.total) / df
    half = student_quantile(LEVEL, df) * math.sqrt(variance / n)
    return Interval(centre, centre - half, centre + half)


class PairedSummary(NamedTuple):
    """Summary of the paired differences of a comparison; the unit is the naive prompt."""

    n: int
    """Prompts."""
    mean: float
    """Mean over prompts of the mean difference over seeds."""
    sd: float | None
    """Between prompts; None for one."""
    lo: float | None
    hi: float | None
    """BCa bootstrap interval; None for fewer than `FEWEST_FOR_BCA` prompts."""
    p: float | None
    """Two-sided, of the hypothesis that each difference is as likely negative; None for one."""
    wins: int
    ties: int

    @property
    def win_rate(self) -> float:
        """Share of prompts that gained, in [0, 1]; a tie is half a win."""
        return (self.wins + self.ties / 2) / self.n


def paired_summary(differences: Mapping[str, Sequence[float]], *, seed: int = 0) -> PairedSummary:
    """Summarise paired differences, by naive prompt, over seeds; ValueError for none at all.

    Interval: bias-corrected and accelerated bootstrap of the mean over prompts (Efron 1987).
    p: sign-flip permutation test of the mean (Fisher 1935), exact where all flips can be tried.
    """
    means = [mean(values) for _, values in sorted(differences.items()) if values]
    centre = mean(means)
    lo, hi = bca_interval(means, seed=seed)
    return PairedSummary(
        n=len(means),
        mean=centre,
        sd=math.sqrt(v) if (v := pooled_squares([means]).variance) is not None else None,
        lo=lo,
        hi=hi,
        p=sign_flip_p(means, seed=seed),
        wins=sum(value > TIE for value in means),
        ties=sum(abs(value) <= TIE for value in means),
    )


def bca_interval(
    values: Sequence[float], *, level: float = LEVEL, seed: int = 0
) -> tuple[float | None, float | None]:
    """The BCa bootstrap interval of the mean; equal values have one of no width."""
    if len(values) < FEWEST_FOR_BCA:
        return None, None
    if max(values) - min(values) <= TIE:
        return values[0], values[0]
    found = scipy.stats.bootstrap(
        (np.array(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
