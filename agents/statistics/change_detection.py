"""Change detection: cumulative sums of scores that are standard normal without a change.

All functions take many sequences, one per row, so that simulations can calibrate thresholds
(scripts/simulations/simulate_diagnostics.py). NaN is a round without a value; it does not change
a sum.

Sources: cumulative sums, Page 1954; limited to the newest values, Lai 1995, Sequential changepoint
detection in quality control and dynamical systems; their start without known mean and spread,
Hawkins 1987, Self-starting CUSUM charts; residuals of each value from the mean of those before it,
Brown, Durbin & Evans 1975; the likelihood-ratio sum for shares, Reynolds & Stoumbos 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its parts load on first use, which most commands do not need
from numpy.typing import NDArray

Rows = NDArray[Any]

BASELINE = 5
"""Values of the first baseline; with fewer values there is no result."""
NEWEST = 30
"""Number of newest values that are summed: older values add false alarms only."""
CLIP = 4.0
"""Maximum score of a value, standard deviations: one outlier is no change."""


def level_scores(values: Rows, *, floor: float = 0.0) -> Rows:
    """Each value against the mean and spread of those before it: (rows, n) to scores (rows, n).

    `floor`: smallest assumed standard deviation, units of the values.
    """
    present = ~np.isnan(values)
    count = np.cumsum(present, axis=1)
    filled = np.where(present, values, 0.0)
    total, squares = np.cumsum(filled, axis=1), np.cumsum(filled**2, axis=1)
    before = _shifted(count), _shifted(total), _shifted(squares)
    n = np.maximum(before[0], 1)
    centre = before[1] / n
    variance = np.maximum(before[2] - n * centre**2, 0.0) / np.maximum(n - 1, 1)
    spread = np.maximum(np.sqrt(variance), max(floor, 1e-12)) * np.sqrt(1 + 1 / n)
    scores = _normal_of_t((values - centre) / spread, np.maximum(n - 1, 1))
    return np.where(present & (before[0] >= BASELINE), scores, np.nan)


def arm_scores(means: Rows, squares: Rows, arms: NDArray[np.int_], counts: Rows) -> Rows:
    """Each pull's mean gain against that of the same arm's earlier pulls: (rows, n) to (rows, n).

    `arms` number the arms from 0; `counts` are the gains of each pull (0: no result) and `squares`
    their squared deviations from their mean. An arm's first pull has no score.
    """
    members = arms[:, :, None] == np.arange(int(arms.max(initial=0)) + 1)
    earlier = _own(members, counts, arms)
    total = _own(members, counts * np.where(counts > 0, means, 0.0), arms)
    usable = (counts > 0) & (earlier > 0)
    gap = means - total / np.maximum(earlier, 1)
    noise = np.sqrt(1 / np.maximum(counts, 1) + 1 / np.maximum(earlier, 1))
    residual = np.where(usable, gap / noise, 0.0)
    # The noise of one gain, from within the pulls and between an arm's pulls, before this one.
    df = _shifted(np.cumsum(np.maximum(counts - 1, 0) + usable, axis=1))
    spread = np.sqrt(_shifted(np.cumsum(squares + residual**2, axis=1)) / np.maximum(df, 1))
    scores = _normal_of_t(residual / np.maximum(spread, 1e-12), np.maximum(df, 1))
    return np.where(usable & (df >= BASELINE), scores, np.nan)


def spread_scores(squares: Rows, df: Rows) -> Rows:
    """Each pull's sum of squared deviations against all before it, by the F distribution."""
    before_squares = _shifted(np.cumsum(squares, axis=1))
    before_df = _shifted(np.cumsum(df, axis=1))
    usable = (df > 0) & (before_df >= 2 * BASELINE)
    ratio = (squares / np.maximum(df, 1)) / np.maximum(
        before_squares / np.maximum(before_df, 1), 1e-30
    )
    scores = -scipy.special.ndtri(
        scipy.special.fdtrc(np.maximum(df, 1), np.maximum(before_df, 1), ratio)
    )
    return np.where(usable, np.clip(scores, -CLIP, CLIP), np.nan)


def cusum(steps: Rows) -> Rows:
    """Page's upper sum: S <- max(0, S + step), of a step that is NaN nothing; (rows, n) to same."""
    total = np.zeros(steps.shape[0])
    sums = np.empty_like(steps)
    filled = np.where(np.isnan(steps), 0.0, steps)
    for index in range(steps.shape[1]):
        total = np.maximum(0.0, total + filled[:, index])
        sums[:, index] = total
    return sums


def newest_sums(steps: Rows) -> Rows:
    """The largest sum of up to `NEWEST` newest steps, at least 0; (rows, n) to (rows, n)."""
    rows, n = steps.shape
    filled = np.where(np.isnan(steps), 0.0, steps)
    total = np.concatenate([np.zeros((rows, 1)), np.cumsum(filled, axis=1)], axis=1)
    sums = np.zeros_like(filled)
    for k in range(1, min(NEWEST, n) + 1):
        np.maximum(sums[:, k - 1 :], total[:, k:] - total[:, :-k], out=sums[:, k - 1 :])
    return sums


def share_steps(hits: Rows, trials: Rows, usual: float, raised: float) -> Rows:
    """Log-likelihood ratios of a share that rises from `usual` to `raised`, both in (0, 1)."""
    up, down = np.log(raised / usual), np.log((1 - raised) / (1 - usual))
    return hits * up + (trials - hits) * down


def change_at(steps: Rows) -> int:
    """The value (from 0) with which the rise began that stands at the end of one row of steps."""
    zero = np.flatnonzero(cusum(steps)[0] <= 0)
    last = steps.shape[1] - 1
    return min(int(zero[-1]) + 1, last) if len(zero) else 0


def _shifted(cumulated: Rows) -> Rows:
    """What stood before each value."""
    return np.concatenate([np.zeros_like(cumulated[:, :1]), cumulated[:, :-1]], axis=1)


def _own(members: NDArray[np.bool_], values: Rows, arms: NDArray[np.int_]) -> Rows:
    """The sum of the same arm's earlier values."""
    sums = np.cumsum(members * values[:, :, None], axis=1)
    before = np.concatenate([np.zeros_like(sums[:, :1]), sums[:, :-1]], axis=1)
    return np.take_along_axis(before, arms[:, :, None], axis=2)[:, :, 0]


def _normal_of_t(t: Rows, df: Rows) -> Rows:
    """The normal score of a Student's t value; from the small tail, which keeps its digits."""
    size = -scipy.special.ndtri(scipy.special.stdtr(df, -np.abs(t)))
    return np.clip(np.sign(t) * size, -CLIP, CLIP)
