"""Plots of experiments as SVG: gains with intervals, and curves over a run.

Only this module needs matplotlib: `pip install "bigpe[report]"`.
"""

from __future__ import annotations

import html
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from bigpe.agents.statistics.moments import mean
from bigpe.runtime.experiments.cells import ExperimentCell, newest
from bigpe.runtime.experiments.report.tables import ExperimentTable, TableRow
from bigpe.services.core.errors import ConfigError

COLOURS = ("#1b5e8c", "#c2541b", "#3c7a3c", "#7a4f9a", "#8a6d1d", "#555555", "#b03060", "#2a8a8a")
"""Distinguishable in grey and for the colour-blind; lines also differ in their markers."""
MARKERS = "osD^vPX*"
WIDTH, LINE_HEIGHT = 7.0, 0.42
APART = 0.008
"""Distance of series at the same x, as a share of the axis, so that intervals stay visible."""
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            'plots need matplotlib: pip install "bigpe[report]", or leave the plot out (--no-plot)'
        ) from error
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    # Equal figures give equal files, and text stays text.
    plt.rcParams.update(
        {"svg.hashsalt": "bigpe", "svg.fonttype": "none", "text.parse_math": False, "font.size": 10}
    )
    return plt


def gains_svg(table: ExperimentTable, *, axis: str = "") -> str:
    """Plot the mean held-out gain of each condition with its 95% interval over run seeds."""
    plt = _pyplot()
    rows = [row for row in table.rows if row.gain is not None]
    numeric = bool(axis) and all(row.x is not None for row in rows)
    height = 4.2 if numeric else 1.4 + LINE_HEIGHT * max(len(rows), 1)
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    if numeric:
        _lines(axes, rows, axis)
    else:
        _dots(axes, rows)
    return _svg(plt, figure, f"Plot of the table of {table.experiment}: held-out gains")


def _lines(axes: Any, rows: Sequence[TableRow], axis: str) -> None:
    series: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        series[row.series].append(row)
    places = [row.x or 0.0 for row in rows]
    apart = APART * (max(places, default=0.0) - min(places, default=0.0))
    for index, (name, members) in enumerate(sorted(series.items())):
        ordered = sorted(members, key=lambda row: row.x or 0.0)
        aside = apart * (index - (len(series) - 1) / 2)
        axes.errorbar(
            [(row.x or 0.0) + aside for row in ordered],
            [row.gain for row in ordered],
            yerr=_whiskers(ordered),
            label=name or None,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            capsize=3,
        )
    axes.set_xlabel(axis)
    axes.set_ylabel("held-out gain (score x 100)")
    axes.axhline(0, color="#999999", linewidth=0.8)
    if any(series):
        _legend(axes)


def _legend(axes: Any, title: str = "") -> None:
    """Draw the legend of a panel beside the plot, because eight curves leave no room inside."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles, labels, title=title or None, frameon=False, loc="outside right center"
    )


def _dots(axes: Any, rows: Sequence[TableRow]) -> None:
    places = list(range(len(rows)))[::-1]
    axes.errorbar(
        [row.gain for row in rows],
        places,
        xerr=_whiskers(rows),
        fmt="o",
        color=COLOURS[0],
        capsize=3,
    )
    axes.set_yticks(places, [_short(row.condition) for row in rows])
    axes.set_xlabel("held-out gain (score x 100), 95% over run seeds")
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.margins(y=0.15)


def _whiskers(rows: Sequence[TableRow]) -> list[list[float]]:
    """Distances down and up; 0 without an interval."""
    return [
        [0.0 if row.lo is None else (row.gain or 0.0) - row.lo for row in rows],
        [0.0 if row.hi is None else row.hi - (row.gain or 0.0) for row in rows],
    ]


def curves_svg(
    cells: Sequence[ExperimentCell], name: str, *, label: str, axis: str = ""
) -> str | None:
    """Plot the mean over run seeds of a cell's curve, one line per arm; None without curves.

    A grid with several series has one panel per series, because 24 arms do not fit into one.
    """
    arms = _arms(cells, name)
    if not arms:
        return None
    plt = _pyplot()
    series = sorted({arm.series for arm in arms})
    panelled = len(series) > 1 and len(arms) > len(series)
    panels = [[arm for arm in arms if arm.series == s] for s in series] if panelled else [arms]
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    figure, places = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, 3.6 if rows == 1 else 2.6 * rows),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    styles = sorted({arm.x or 0.0 for arm in arms})
    for axes, members in zip(places.flat, panels, strict=False):
        if panelled:
            axes.set_title(members[0].series, fontsize=10)
        for index, arm in enumerate(members):
            title = f"{arm.x or 0.0:g}" if panelled else _short(arm.label)
            _curve(axes, arm.points, title, styles.index(arm.x or 0.0) if panelled else index)
    figure.supxlabel("round", fontsize=10)
    figure.supylabel(label, fontsize=10)
    _legend(max(places.flat, key=lambda axes: len(axes.lines)), title=axis if panelled else "")
    return _svg(plt, figure, f"Plot: {label} by round, {', '.join(arm.label for arm in arms)}")


def _curve(axes: Any, points: Sequence[tuple[float, float]], title: str, style: int) -> None:
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        label=title,
        color=COLOURS[style % len(COLOURS)],
        marker=MARKERS[style % len(MARKERS)],
        markevery=max(1, len(points) // 8),
    )


class _Arm(NamedTuple):
    """A line of `curves_svg`."""

    label: str
    series: str
    x: float | None
    points: list[tuple[float, float]]


def _arms(cells: Sequence[ExperimentCell], name: str) -> list[_Arm]:
    """The arms by series and place on the axis, else in the order of the cells."""
    curves: dict[str, list[list[tuple[float, float]]]] = defaultdict(list)
    first: dict[str, ExperimentCell] = {}
    for cell in newest(cells):
        if points := cell.curves.get(name):
            curves[cell.arm].append(points)
            first.setdefault(cell.arm, cell)
    arms = [
        _Arm(label, first[label].series, first[label].x, _averaged(found))
        for label, found in curves.items()
    ]
    return sorted(arms, key=lambda arm: (arm.series, arm.x or 0.0))


def _averaged(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean curve over the rounds that all runs reached."""
    at: dict[float, list[float]] = defaultdict(list)
    for points in curves:
        for x, y in points:
            at[x].append(y)
    return [(x, mean(values)) for x, values in sorted(at.items()) if len(values) == len(curves)]


def _short(text: str) -> str:
    return text if len(text) <= 48 else f"{text[:47]}…"


def _svg(plt: Any, figure: Any, label: str) -> str:
    """The figure as SVG; `label`: its text for screen readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    plt.close(figure)
    text = buffer.getvalue()
    drawn = text[text.index("<svg") + len("<svg") :]
    return f'<svg role="img" aria-label="{html.escape(label)}"{drawn}'
