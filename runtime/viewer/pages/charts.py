"""Coordinates of the charts. The templates draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.transcript.summary import CurvePoint, RoundSummary

WIDTH, HEIGHT = 1280.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 12.0, 26.0


class Tick(NamedTuple):
    """A mark on an axis."""

    at: float
    label: str


class Dot(NamedTuple):
    """A round's mean gain."""

    x: float
    y: float
    round: int
    label: str
    own: bool
    """Whether the round pulled the present best instruction."""


class GainChart(NamedTuple):
    """The best gain with its interval, by round."""

    width: float
    height: float
    zero: float
    band: str
    """An SVG path."""
    line: str
    dots: list[Dot]
    rows: list[Tick]
    columns: list[Tick]
    left: float
    right: float
    bottom: float


def gain_chart(
    curve: Sequence[CurvePoint], rounds: Sequence[RoundSummary], planned: int, best: str
) -> GainChart | None:
    """The chart, gains x 100; None without points."""
    if not curve:
        return None
    low, high = _span(curve, rounds)
    last = max(planned, curve[-1].round, 2)

    def x(round: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (round - 1) / (last - 1)

    def y(gain: float) -> float:
        part = (100 * gain - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(part, 0.0), 1.0)

    upper = [(x(p.round), y(p.gain.mean if p.gain.hi is None else p.gain.hi)) for p in curve]
    lower = [(x(p.round), y(p.gain.mean if p.gain.lo is None else p.gain.lo)) for p in curve]
    step = max(1, math.ceil(len(rounds) / 400))
    return GainChart(
        width=WIDTH,
        height=HEIGHT,
        zero=y(0.0),
        band=f"M{_path([*_stairs(upper), *reversed(_stairs(lower))])}Z",
        line=f"M{_path(_stairs([(x(p.round), y(p.gain.mean)) for p in curve]))}",
        dots=[
            Dot(x(r.round), y(r.mean), r.round, f"{100 * r.mean:+.2f}", r.arm == best)
            for r in rounds[::step]
            if r.mean is not None
        ],
        rows=[
            Tick(y(value / 100), f"{value:g}".replace("-", "−")) for value in _nice(low, high, 5)
        ],
        columns=[Tick(x(r), str(r)) for r in _whole(1, last, 9)],
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
    )


def _span(curve: Sequence[CurvePoint], rounds: Sequence[RoundSummary]) -> tuple[float, float]:
    """The range of all means, zero and the last interval; wider earlier intervals are cut."""
    ends = [end for end in (curve[-1].gain.lo, curve[-1].gain.hi) if end is not None]
    values = [0.0, *ends, *(p.gain.mean for p in curve)]
    values += [r.mean for r in rounds if r.mean is not None]
    low, high = 100 * min(values), 100 * max(values)
    margin = max(0.06 * (high - low), 0.01)
    return low - margin, high + margin


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points of a step line: each value is constant until the next point."""
    steps: list[tuple[float, float]] = []
    for x, y in points:
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    return steps


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _nice(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between `low` and `high`."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    first = math.ceil(low / step)
    return [round(step * k, 10) for k in range(first, math.floor(high / step) + 1)]


def _whole(low: int, high: int, count: int) -> list[int]:
    step = max(1, round(_step((high - low) / count)))
    rest = range(step * (low // step + 1), high + 1, step)
    return [low, *(value for value in rest if value - low >= 0.75 * step)]


def _step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(max(raw, 1.0)))
    return next(size * m for m in (1, 2, 5, 10) if size * m >= raw)


class Whisker(NamedTuple):
    """An interval as a line on a common scale; all in 0..100."""

    lo: float
    hi: float
    mean: float
    zero: float


def whiskers(gains: Sequence[Interval | None]) -> list[Whisker | None]:
    """The intervals on a common scale with all means, zero and most bounds."""
    present = [gain for gain in gains if gain is not None]
    if not present:
        return [None for _ in gains]
    means = [gain.mean for gain in present]
    spread = max(max(means) - min(means), 1e-9)
    ends = [end for gain in present for end in (gain.lo, gain.hi) if end is not None]
    low = max(min([0.0, *means, *ends]), min(0.0, *means) - spread)
    high = min(max([0.0, *means, *ends]), max(0.0, *means) + spread)
    width = max(high - low, 1e-9)

    def place(value: float) -> float:
        return round(100 * min(max((value - low) / width, 0.0), 1.0), 2)

    return [
        None
        if gain is None
        else Whisker(
            place(gain.mean if gain.lo is None else gain.lo),
            place(gain.mean if gain.hi is None else gain.hi),
            place(gain.mean),
            place(0.0),
        )
        for gain in gains
    ]
