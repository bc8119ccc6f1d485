"""Agreement of raters, rank correlation and shares. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import scipy  # scipy.stats loads on first use: one second that most commands do not need

from bigpe.agents.statistics.intervals import LEVEL, Interval


def share_interval(successes: int, n: int) -> Interval | None:
    """A share with its Wilson score interval (Wilson 1927); None for no trials."""
    if not n:
        return None
    bounds = scipy.stats.binomtest(successes, n).proportion_ci(
        confidence_level=LEVEL, method="wilson"
    )
    return Interval(successes / n, float(bounds.low), float(bounds.high))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation in [-1, 1]; None for fewer than 3 pairs or no variation."""
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    result: Any = scipy.stats.spearmanr(first, second)
    return float(result.statistic)


def cohen_kappa(ratings: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two raters beyond chance (Cohen 1960): 1 is full agreement, 0 is chance level.

    `ratings`: for each item, the labels of both raters. None for no ratings, and if both raters use
    the same single label: chance agreement is then 1.
    """
    if not ratings:
        return None
    n = len(ratings)
    observed = sum(a == b for a, b in ratings) / n
    first, second = Counter(a for a, _ in ratings), Counter(b for _, b in ratings)
    chance = sum(first[label] * second[label] for label in first) / n**2
    return (observed - chance) / (1 - chance) if chance < 1 else None
