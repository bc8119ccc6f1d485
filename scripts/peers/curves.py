"""The race's figures from its cells: held-out gain against renders, intervals over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bigpe.agents.statistics.intervals import Interval, mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.runtime import formatting
from bigpe.runtime.experiments.cells import ExperimentCell, newest
from bigpe.runtime.experiments.report import tables
from bigpe.runtime.experiments.report.contrasts import differences

POINTS = "score x 100"
NAMES = {
    "heldout_gain_bigpe": "bigpe",
    "heldout_gain_gepa": "gepa",
    "heldout_gain_opro": "opro",
    "heldout_gain_evoprompt": "evoprompt-ga",
    "heldout_gain_capo": "capo",
    "heldout_gain_random": "random",
}
OURS, THEIRS = ("bigpe", 200), ("gepa", 400)

BySeed = dict[int, float]
Curves = dict[tuple[str, int], BySeed]
"""(method, budget) -> run seed -> mean held-out gain, score x 100."""


class Figure(NamedTuple):
    """As scripts/benchmarks/figures.py prints it."""

    figure: str
    value: float | None
    unit: str
    n: int
    lo: float | None
    hi: float | None
    how: str


def gains_of(cells: Sequence[ExperimentCell]) -> Curves:
    """Each run's mean held-out gain."""
    found: Curves = defaultdict(dict)
    for cell in newest(cells):
        gains = list(cell.gains[tables.BEST].values())
        found[cell.series, cell.budget][cell.seed] = 100 * mean(gains)
    return dict(found)


def figures(cells: Sequence[ExperimentCell]) -> list[Figure]:
    """The figures of bench_peers.py; a figure whose cells have not run is null and says so."""
    curves = gains_of(cells)
    return [_difference(curves), _ratio(curves), *_heldout(curves)]


def _difference(curves: Curves) -> Figure:
    ours, theirs = curves.get(OURS, {}), curves.get(THEIRS, {})
    apart = differences(ours, theirs)
    name = "bigpe200_minus_gepa400"
    if not apart:
        return Figure(name, None, POINTS, 0, None, None, _missing(ours, theirs))
    found = mean_interval(apart)
    how = "held-out gain of bigpe at 200 renders less GEPA at 400, paired over run seeds; 95% t"
    return Figure(name, found.mean, POINTS, len(apart), found.lo, found.hi, how)


def _missing(ours: BySeed, theirs: BySeed) -> str:
    lacking = [
        f"{method}@{budget}"
        for (method, budget), existing in ((OURS, ours), (THEIRS, theirs))
        if not existing
    ]
    return f"not run yet: {', '.join(lacking)}" if lacking else "no run seed has both"


def _ratio(curves: Curves) -> Figure:
    """The share of GEPA's 400 renders that bigpe needs for GEPA's gain, over the seeds of both.

    Looked for up to the 200 renders that are compared with GEPA's 400; fewer seeds may have run on.
    """
    name, unit = "renders_ratio_to_gepa", "share of 400 renders"
    theirs = curves.get(THEIRS, {})
    ours = {
        budget: found
        for (method, budget), found in curves.items()
        if method == OURS[0] and budget <= OURS[1]
    }
    if not theirs or not ours:
        return Figure(name, None, unit, 0, None, None, _missing(ours.get(OURS[1], {}), theirs))
    shared = sorted(theirs.keys() & set.intersection(*(set(found) for found in ours.values())))
    if not shared:
        return Figure(name, None, unit, 0, None, None, "no run seed has them all")
    target = mean_interval([theirs[seed] for seed in shared])
    curve = {budget: mean([found[seed] for seed in shared]) for budget, found in ours.items()}
    share, how = _share_to_reach(curve, target)
    return Figure(name, share, unit, len(shared), None, None, how)


def _share_to_reach(curve: Mapping[int, float], target: Interval) -> tuple[float | None, str]:
    """At which share of GEPA's renders `curve` passes `target`, and how; or why there is none."""
    if target.lo is None or target.hi is None:
        return None, "null: one run seed has no interval"
    if target.lo <= 0 <= target.hi:
        return (
            None,
            f"null: the interval of gepa@400's own gain includes 0 ({interval_text(target)})",
        )
    passed = f"gepa@400's ({interval_text(target)})"
    how = f"renders at which bigpe's mean gain passes {passed}, interpolated"
    reached = renders_to_reach(curve, target.mean)
    if reached is None:
        return None, f"null: never up to {OURS[1]} renders; {how}"
    return round(reached / THEIRS[1], 3), how


def renders_to_reach(curve: Mapping[int, float], target: float) -> float | None:
    """Where a curve of budget to gain first reaches `target`, linear in between, from (0, 0)."""
    before = (0.0, 0.0)
    for budget, gain in sorted(curve.items()):
        if gain >= target:
            if gain == before[1]:
                return float(budget)
            share = max(0.0, (target - before[1]) / (gain - before[1]))
            return before[0] + share * (budget - before[0])
        before = (float(budget), gain)
    return None


def _heldout(curves: Curves) -> list[Figure]:
    """At the highest budget that every method of the table has run at."""
    budgets = {
        method: {budget for name, budget in curves if name == method} for method in NAMES.values()
    }
    common: set[int] = set.intersection(*budgets.values()) if budgets else set()
    if not common:
        how = "not run yet: no budget has all methods"
        return [Figure(name, None, POINTS, 0, None, None, how) for name in NAMES]
    budget = max(common)
    return [_gain(name, budget, curves[method, budget]) for name, method in NAMES.items()]


def _gain(name: str, budget: int, by_seed: Mapping[int, float]) -> Figure:
    found = mean_interval(list(by_seed.values()))
    how = f"mean held-out paired gain at {budget} renders; 95% t over run seeds"
    return Figure(name, found.mean, POINTS, len(by_seed), found.lo, found.hi, how)


def interval_text(found: Interval) -> str:
    """A mean and its bounds, as a table or a sentence shows them."""
    text = formatting.estimate(*found)
    return f"{text}, one seed" if found.lo is None or found.hi is None else text
