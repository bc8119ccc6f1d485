"""Small-sample statistics of paired gains. Pure; units are those of the values given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy  # scipy.stats is loaded when it is used: a second that most commands need not wait
from numpy.typing import NDArray
from scipy.special import stdtrit

LEVEL = 0.95
"""Confidence of an interval where none is named."""
RESAMPLES = 9_999
"""Bootstrap samples and sign flips; all flips are tried where there are no more than this."""
FEWEST_FOR_BCA = 5
"""Values below which a bootstrap only repeats what it was given."""
TIE = 1e-12
"""Differences up to this size are no difference: equal pictures have equal scores."""


class Interval(NamedTuple):
    """A mean and its confidence interval; the bounds are None where the data cannot tell."""

    mean: float
    lo: float | None
    """None: minus infinity."""
    hi: float | None
    """None: plus infinity."""


class Squares(NamedTuple):
    """Squared deviations from the group means, pooled over groups."""

    total: float
    df: int
    """Degrees of freedom; 0 when no group has two values."""

    @property
    def variance(self) -> float | None:
        """The pooled variance; None without degrees of freedom."""
        return self.total / self.df if self.df else None


class Gains(NamedTuple):
    """What many gains come to: as much as decisions read of them, however many there are."""

    n: int = 0
    mean: float = 0.0
    """Score units; 0 without gains."""
    squares: float = 0.0
    """Summed squared deviations from the mean."""
    wins: float = 0.0
    """Gains above 0; one of 0 is half of one."""

    def plus(self, gains: Iterable[float]) -> Gains:
        """With these, too (Welford 1962); the order of gains shows in the last digits only."""
        n, centre, squares, wins = self
        for gain in gains:
            n += 1
            apart = gain - centre
            centre += apart / n
            squares += apart * (gain - centre)
            wins += 1.0 if gain > 0 else 0.5 if gain == 0 else 0.0
        return Gains(n, centre, squares, wins)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, exactly summed. ValueError for no values."""
    if not values:
        raise ValueError("the mean of no values")
    return math.fsum(values) / len(values)


@lru_cache(maxsize=4096)
def student_quantile(level: float, df: float) -> float:
    """Half-width of the central `level` of Student's t with `df` > 0, in standard errors."""
    return float(stdtrit(df, 0.5 + level / 2))


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


def moderated_interval(
    values: Sequence[float], prior_variance: float | None, prior_df: float, *, level: float = LEVEL
) -> Interval:
    """Student's t interval with a variance shrunk to `prior_variance`, worth `prior_df` values.

    s^2 = (d0 s0^2 + SS) / (d0 + n - 1), t with d0 + n - 1 degrees of freedom (Smyth 2004, the
    moderated t). Few values make a plain variance unreliable: the arm whose prompts happened to
    agree would win by luck. No bounds without a prior; ValueError for no values.
    """
    squares = pooled_squares([values])
    return moderated_mean(mean(values), len(values), squares, prior_variance, prior_df, level=level)


def moderated_mean(
    centre: float,
    n: int,
    squares: Squares,
    prior_variance: float | None,
    prior_df: float,
    *,
    level: float = LEVEL,
) -> Interval:
    """`moderated_interval` of `n` values with that mean and these squares about it."""
    if prior_variance is None:
        return Interval(centre, None, None)
    df = prior_df + squares.df
    variance = (prior_df * prior_variance + squares.total) / df
    half = student_quantile(level, df) * math.sqrt(variance / n)
    return Interval(centre, centre - half, centre + half)


def pooled_squares(groups: Iterable[Sequence[float]]) -> Squares:
    """Only differences within a group count; groups of one value say nothing."""
    parts: list[float] = []
    df = 0
    for group in groups:
        if len(group) > 1:
            centre = mean(group)
            parts += [(value - centre) ** 2 for value in group]
            df += len(group) - 1
    return Squares(math.fsum(parts), df)


def summed(parts: Iterable[Squares]) -> Squares:
    """Squares of several sets of groups, pooled; exactly summed, so that no order shows."""
    pooled = [*parts]
    return Squares(math.fsum(part.total for part in pooled), sum(part.df for part in pooled))


@dataclass(frozen=True)
class ScaleEstimate:
    """The noise of one gain: a pooled variance shrunk towards a pilot's.

    sigma^2 = (nu0 sigma0^2 + SS) / (nu0 + df): the posterior mean scale of a scaled
    inverse-chi-square prior with nu0 degrees of freedom (Gelman et al., BDA3, section 2.6).
    """

    sigma0: float
    """The pilot's estimate, score units; > 0."""
    nu0: float
    """The pilot's degrees of freedom; > 0."""
    squares: float = 0.0
    df: int = 0

    @property
    def sigma(self) -> float:
        """Standard deviation of one gain, score units; > 0."""
        return math.sqrt((self.nu0 * self.sigma0**2 + self.squares) / (self.nu0 + self.df))

    def with_squares(self, squares: Squares) -> ScaleEstimate:
        """The estimate from the pilot and these squares, in place of any squares given before."""
        return ScaleEstimate(self.sigma0, self.nu0, squares.total, squares.df)


class PairedSummary(NamedTuple):
    """What the paired differences of one comparison say; the unit is the naive prompt."""

    n: int
    """Prompts."""
    mean: float
    """Mean difference over prompts, each prompt's own mean taken over its seeds first."""
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


def paired_summary(
    differences: Mapping[str, Sequence[float]], *, level: float = LEVEL, seed: int = 0
) -> PairedSummary:
    """Summarise paired differences, by naive prompt, over seeds; ValueError for none at all.

    Interval: bias-corrected and accelerated bootstrap of the mean over prompts (Efron 1987).
    p: sign-flip permutation test of the mean (Fisher 1935), exact where all flips can be tried.
    """
    means = [mean(values) for _, values in sorted(differences.items()) if values]
    centre = mean(means)
    lo, hi = bca_interval(means, level=level, seed=seed)
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


def sign_flip_p(values: Sequence[float], *, seed: int = 0) -> float | None:
    """Two-sided p of the mean under random signs; 1 where all values are 0, None for one value."""
    if len(values) < 2:
        return None
    if max(abs(value) for value in values) <= TIE:
        return 1.0

    def statistic(sample: NDArray[Any], axis: int) -> NDArray[Any]:
        return np.mean(sample, axis=axis)

    found = scipy.stats.permutation_test(
        (np.array(values),),
        statistic,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for being read together, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def student_p(differences: Sequence[float]) -> float:
    """Two-sided p of Student's t test that the mean of two or more differences is 0.

    1 for differences of nothing at all, where the test divides by 0.
    """
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue) if any(differences) else 1.0


def share_interval(successes: int, n: int, *, level: float = LEVEL) -> Interval | None:
    """A share and its Wilson score interval (Wilson 1927); None for no trials."""
    if not n:
        return None
    bounds = scipy.stats.binomtest(successes, n).proportion_ci(
        confidence_level=level, method="wilson"
    )
    return Interval(successes / n, float(bounds.low), float(bounds.high))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, in [-1, 1]; None where it is not defined: few pairs (< 3), or no variation."""
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    one, other = ([pair[side] for pair in pairs] for side in (0, 1))
    result: Any = scipy.stats.spearmanr(one, other)
    return float(result.statistic)


def cohen_kappa(ratings: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two judges beyond chance (Cohen 1960): 1 all, 0 as by chance.

    `ratings`: what each said of the same things. None for no ratings, or when both always say the
    same one thing: then chance alone agrees everywhere.
    """
    if not ratings:
        return None
    n = len(ratings)
    observed = sum(a == b for a, b in ratings) / n
    one, other = Counter(a for a, _ in ratings), Counter(b for _, b in ratings)
    chance = sum(one[label] * other[label] for label in one) / n**2
    return (observed - chance) / (1 - chance) if chance < 1 else None
