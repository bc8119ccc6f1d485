"""Significance tests of paired differences. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # scipy.stats loads on first use: one second that most commands do not need
from numpy.typing import NDArray

TIE = 1e-12
"""Differences up to this size count as ties: equal images have equal scores."""
RESAMPLES = 9_999
"""Number of random sign flips and of bootstrap samples. If fewer flips exist, all are tried."""


def sign_flip_p(values: Sequence[float], *, seed: int = 0) -> float | None:
    """Two-sided p of the mean under random signs; 1 if all values are 0, None for one value."""
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
    """p values adjusted for multiple comparisons, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def student_p(differences: Sequence[float]) -> float:
    """Two-sided p of Student's t test that the mean of two or more differences is 0.

    1 if all differences are 0, where the test is undefined.
    """
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue) if any(differences) else 1.0
