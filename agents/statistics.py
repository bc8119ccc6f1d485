"""Small-sample statistics of paired gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import t as student


class Interval(NamedTuple):
    """A mean and its confidence interval; the bounds are None where one value cannot tell."""

    mean: float
    lo: float | None
    hi: float | None


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Student's t interval of the mean. ValueError for no values."""
    if not values:
        raise ValueError("the mean of no values")
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, None, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(student.ppf(0.5 + level / 2, n - 1)) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half)


def clustered_interval(groups: Mapping[str, Sequence[float]], *, level: float = 0.95) -> Interval:
    """The interval of the mean over clusters (naive prompts): each cluster counts as one value.

    Repeats of a prompt share its difficulty, so they are not independent; the cluster mean is the
    unit (Cameron & Miller 2015, section II, in its simplest form).
    """
    means = [math.fsum(values) / len(values) for values in groups.values() if values]
    return mean_interval(means, level=level)


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

    def with_groups(self, groups: Sequence[Sequence[float]]) -> ScaleEstimate:
        """The estimate after gains in groups; only differences within a group are noise."""
        squares, df = 0.0, 0
        for group in groups:
            if len(group) > 1:
                mean = math.fsum(group) / len(group)
                squares += math.fsum((value - mean) ** 2 for value in group)
                df += len(group) - 1
        return ScaleEstimate(self.sigma0, self.nu0, squares, df)
