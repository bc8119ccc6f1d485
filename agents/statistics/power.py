"""How many prompts does a wanted effect need? The paired t test, for plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import scipy  # its parts load on first use, which most commands do not need

from bigpe.agents.statistics.intervals import LEVEL, student_quantile
from bigpe.agents.statistics.moments import mean, pooled_squares

MOST_PROMPTS = 1_000_000
SURE = 0.8
"""Confidence of the bound on a spread that is estimated from few gains: Browne 1995, On the use of
a pilot sample for sample size determination, Statistics in Medicine 14."""


class SpreadParts(NamedTuple):
    """Where the spread of a gain comes from."""

    between: float
    """Variance between naive prompts, score units squared."""
    within: float
    """Variance between seeds of one prompt."""
    df: float = math.inf
    """Degrees of freedom that the spread of a prompt's gain rests on; infinite for a known one."""

    def sd(self, seeds: int) -> float:
        """Standard deviation of a prompt's mean over `seeds` seeds."""
        return math.sqrt(self.between + self.within / seeds)

    def sd_at_most(self, seeds: int) -> float:
        """What that deviation does not exceed with confidence `SURE`, for normal gains.

        A plan with `sd` misses the wanted power about every second time, and after a small pilot
        by much; a plan with this bound keeps it four times out of five.
        """
        if math.isinf(self.df):
            return self.sd(seeds)
        return self.sd(seeds) * math.sqrt(self.df / float(scipy.special.chdtri(self.df, SURE)))


def spread_parts(arms: Iterable[Sequence[Sequence[float]]]) -> SpreadParts | None:
    """Variance components of gains, by arm and naive prompt, pooled over arms.

    One-way analysis (Searle, Casella & McCulloch 1992). Where no prompt has two gains under an arm
    all variance counts as between prompts, which plans one seed rightly and promises nothing of
    more. None where no arm has two prompts.
    """
    kept = [[group for group in arm if group] for arm in arms]
    squares = pooled_squares([mean(group) for group in arm] for arm in kept)
    of_means = squares.variance
    if of_means is None:
        return None
    groups = [group for arm in kept for group in arm]
    within = pooled_squares(groups).variance
    if within is None:
        return SpreadParts(of_means, 0.0, squares.df)
    # A mean of n gains holds within / n: on average within times the mean of 1 / n.
    share = mean([1 / len(group) for group in groups])
    return SpreadParts(max(of_means - within * share, 0.0), within, squares.df)


def power(effect: float, sd: float, prompts: int, *, level: float = LEVEL) -> float:
    """Chance that a two-sided paired t test of `prompts` >= 2 finds a mean `effect`, sd > 0.

    Noncentral t (Cohen 1988, section 2.3).
    """
    df = prompts - 1
    shift = abs(effect) / sd * math.sqrt(prompts)
    edge = student_quantile(level, df)
    upper, lower = (
        1 - float(scipy.special.nctdtr(df, shift, edge)),
        float(scipy.special.nctdtr(df, shift, -edge)),
    )
    # The far tail, where the series has no digits left, is nothing.
    return upper + (0.0 if math.isnan(lower) else lower)


def prompts_needed(effect: float, sd: float, wanted: float) -> int | None:
    """The fewest prompts with at least the wanted power; None past a million.

    `effect` != 0 and `sd` > 0 in one unit; `wanted` in (1 - LEVEL, 1).
    """
    high = 2
    while power(effect, sd, high) < wanted:
        high *= 2
        if high > MOST_PROMPTS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if power(effect, sd, middle) < wanted:
            low = middle
        else:
            high = middle
    return max(high, 2)
