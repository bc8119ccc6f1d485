"""Contrasts and trends of a grid with lines and an axis, paired by run seed.

A table compares each arm with one reference. For a grid such as policies by batch sizes, contrasts
compare two lines at the same x, and trends estimate the effect of a doubling of x.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bigpe.agents.statistics.intervals import Interval, mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.agents.statistics.significance import holm, student_p
from bigpe.runtime.experiments.cells import ExperimentCell
from bigpe.runtime.experiments.report.tables import BEST, in_order
from bigpe.runtime.formatting import estimate
from bigpe.services.core.values import Value

Line = dict[float, dict[int, float]]
"""x -> run seed -> held-out gain, score x 100."""
DIGITS = 4
"""Decimal places of a figure; further digits may differ between machines."""
FEWEST_POINTS = 3
"""Fewest places on the axis for a trend; with two, the slope is only a difference."""


class Contrast(Value):
    """The first line less another line at the same x; score x 100, 95% over run seeds."""

    line: str
    other: str
    x: float | None
    """None: the means over all x of both lines; a crossing is then invisible."""
    seeds: int
    """Number of common run seeds."""
    difference: float
    lo: float | None
    hi: float | None
    p_holm: float
    """Student's t after Holm's correction, over all contrasts at an x or all over every x."""


class Trend(Value):
    """The effect of a doubling of x on a line: least squares over log2 x, one slope per seed."""

    line: str
    xs: tuple[float, ...]
    seeds: int
    """Number of run seeds with all x."""
    slope: float
    """Score x 100 per doubling."""
    lo: float | None
    hi: float | None
    apart: float | None
    """The first line's slope less this slope, paired by run seed; None for the first line."""
    apart_lo: float | None
    apart_hi: float | None


def contrasts(cells: Sequence[ExperimentCell], order: Sequence[str] = ()) -> list[Contrast]:
    """Compare the first line of the grid with each other line, where two run seeds have both.

    `order`: labels of the arms; the first label decides the first line.
    """
    lines = lines_of(cells, order)
    if len(lines) < 2:
        return []
    (first, base), *others = lines.items()
    at_x: list[tuple[str, float | None, list[float]]] = []
    over_all: list[tuple[str, float | None, list[float]]] = []
    for other, line in others:
        shared = sorted(base.keys() & line.keys())
        at_x += [(other, x, differences(base[x], line[x])) for x in shared]
        if len(shared) > 1:
            over_all.append((other, None, differences(_over(base, shared), _over(line, shared))))
    return [*_family(first, at_x), *_family(first, over_all)]


def _over(line: Line, xs: Sequence[float]) -> dict[int, float]:
    """The mean over `xs` by run seed, for seeds with all of them."""
    return {seed: mean([line[x][seed] for x in xs]) for seed in _whole(line, xs)}


def _whole(line: Line, xs: Iterable[float]) -> list[int]:
    return sorted(set.intersection(*(set(line[x]) for x in xs)))


def _family(
    line: str, family: Sequence[tuple[str, float | None, list[float]]]
) -> Iterable[Contrast]:
    """The contrasts with at least two run seeds, corrected together."""
    found = [member for member in family if len(member[2]) > 1]
    corrected = holm([student_p(apart) for _, _, apart in found])
    for (other, x, apart), p_holm in zip(found, corrected, strict=True):
        yield _contrast(line, other, x, apart, p_holm)


def _contrast(
    line: str, other: str, x: float | None, apart: Sequence[float], p_holm: float
) -> Contrast:
    difference, lo, hi = _rounded(mean_interval(apart))
    return Contrast(
        line=line,
        other=other,
        x=x,
        seeds=len(apart),
        difference=difference,
        lo=lo,
        hi=hi,
        p_holm=round(p_holm, DIGITS),
    )


def trends(cells: Sequence[ExperimentCell], order: Sequence[str] = ()) -> list[Trend]:
    """The trend of each line with three places above 0 on the axis; see `contrasts`."""
    lines = lines_of(cells, order)
    slopes = {name: _slopes(line) for name, line in lines.items() if _doubles(line)}
    base = next(iter(slopes.values()), {})
    first = next(iter(slopes), "")
    found: list[Trend] = []
    for name, by_seed in slopes.items():
        if not by_seed:
            continue
        slope, lo, hi = _rounded(mean_interval(list(by_seed.values())))
        apart = [] if name == first else differences(base, by_seed)
        between = _rounded(mean_interval(apart)) if apart else (None, None, None)
        found.append(
            Trend(
                line=name,
                xs=tuple(sorted(lines[name])),
                seeds=len(by_seed),
                slope=slope,
                lo=lo,
                hi=hi,
                apart=between[0],
                apart_lo=between[1],
                apart_hi=between[2],
            )
        )
    return found


def lines_of(cells: Sequence[ExperimentCell], order: Sequence[str] = ()) -> dict[str, Line]:
    """The gains of the returned instructions by line, in the order of the arms."""
    lines: dict[str, Line] = defaultdict(lambda: defaultdict(dict))
    for cell in in_order(cells, order):
        if cell.x is not None and (gains := cell.gains.get(BEST)):
            lines[cell.series][cell.x][cell.seed] = 100 * mean(list(gains.values()))
    return {name: dict(line) for name, line in lines.items()}


def differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Ours less theirs, for each common run seed."""
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def _rounded(found: Interval) -> Interval:
    centre, lo, hi = found
    return Interval(
        round(centre, DIGITS),
        None if lo is None else round(lo, DIGITS),
        None if hi is None else round(hi, DIGITS),
    )


def _doubles(line: Line) -> bool:
    return len(line) >= FEWEST_POINTS and min(line) > 0


def _slopes(line: Line) -> dict[int, float]:
    """Slope by run seed, for seeds with all x of the line."""
    xs = np.log2(sorted(line))
    return {
        seed: float(np.polyfit(xs, [line[x][seed] for x in sorted(line)], 1)[0])
        for seed in _whole(line, line)
    }


def further_tables(contrasts: Sequence[Contrast], trends: Sequence[Trend]) -> list[list[list[str]]]:
    """Both as tables of texts with their heads; empty tables are left out."""
    return [table for table in (contrast_table(contrasts), trend_table(trends)) if table]


def contrast_table(found: Sequence[Contrast]) -> list[list[str]]:
    """A head, then one row per x with one column per line; empty without contrasts."""
    if not found:
        return []
    others = list(dict.fromkeys(contrast.other for contrast in found))
    xs: list[float | None] = [*sorted({c.x for c in found if c.x is not None})]
    if any(contrast.x is None for contrast in found):
        xs.append(None)
    by_place = {(contrast.other, contrast.x): contrast for contrast in found}
    return [
        [f"{found[0].line} less", *others],
        *(
            ["over all" if x is None else f"at {x:g}"]
            + [_cell(by_place.get((other, x))) for other in others]
            for x in xs
        ),
    ]


def _cell(contrast: Contrast | None) -> str:
    return "-" if contrast is None else estimate(contrast.difference, contrast.lo, contrast.hi)


def trend_table(found: Sequence[Trend]) -> list[list[str]]:
    """A head, then one row per line; empty without trends."""
    if not found:
        return []
    return [
        ["each doubling", "from", "to", "adds [95%]", f"{found[0].line} less it [95%]"],
        *(
            [
                trend.line,
                f"{trend.xs[0]:g}",
                f"{trend.xs[-1]:g}",
                estimate(trend.slope, trend.lo, trend.hi),
                estimate(trend.apart, trend.apart_lo, trend.apart_hi),
            ]
            for trend in found
        ),
    ]
