"""Means, sums of squares and running moments. Pure; units are those of the values given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class SumOfSquares(NamedTuple):
    """Squared deviations from the group means, pooled over groups."""

    total: float
    df: int
    """Degrees of freedom; 0 when no group has two values."""

    @property
    def variance(self) -> float | None:
        """The pooled variance; None without degrees of freedom."""
        return self.total / self.df if self.df else None


class RunningMoments(NamedTuple):
    """Count, mean, spread and wins of any number of gains."""

    n: int = 0
    mean: float = 0.0
    """Score units; 0 without gains."""
    squares: float = 0.0
    """Summed squared deviations from the mean."""
    wins: float = 0.0
    """Number of gains above 0; a gain of exactly 0 counts half."""

    def plus(self, gains: Iterable[float]) -> RunningMoments:
        """Add these gains (Welford 1962). Their order changes the last digits only."""
        n, centre, squares, wins = self
        for gain in gains:
            n += 1
            apart = gain - centre
            centre += apart / n
            squares += apart * (gain - centre)
            wins += 1.0 if gain > 0 else 0.5 if gain == 0 else 0.0
        return RunningMoments(n, centre, squares, wins)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, exactly summed. ValueError for no values."""
    if not values:
        raise ValueError("the mean of no values")
    return math.fsum(values) / len(values)


def pooled_squares(groups: Iterable[Sequence[float]]) -> SumOfSquares:
    """Squared deviations within groups, pooled. A group of one value adds nothing."""
    parts: list[float] = []
    df = 0
    for group in groups:
        if len(group) > 1:
            centre = mean(group)
            parts += [(value - centre) ** 2 for value in group]
            df += len(group) - 1
    return SumOfSquares(math.fsum(parts), df)


def summed(parts: Iterable[SumOfSquares]) -> SumOfSquares:
    """The sum of several pooled squares; exact, so independent of their order."""
    pooled = [*parts]
    return SumOfSquares(math.fsum(part.total for part in pooled), sum(part.df for part in pooled))


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

    def with_squares(self, squares: SumOfSquares) -> ScaleEstimate:
        """The estimate from the pilot and these squares, in place of earlier squares."""
        return ScaleEstimate(self.sigma0, self.nu0, squares.total, squares.df)
