"""Tables of cells: one row per configuration, with intervals over run seeds.

The unit is the run. Its figure is the mean held-out gain over naive prompts, and the interval is
Student's t over seeds. A comparison with the reference is paired by seed, because runs with equal
seeds have equal batches and naive images.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from bigpe.agents.statistics.intervals import Interval, mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.runtime.experiments.cells import ExperimentCell, newest
from bigpe.runtime.formatting import estimate, markdown_table
from bigpe.services.core.values import Value

BEST = "best instruction"
"""The condition of all cells: the instruction that the run returned."""
COLUMNS = (
    "condition",
    "seeds",
    "gain",
    "lo",
    "hi",
    "difference",
    "difference_lo",
    "difference_hi",
    "renders",
    "tokens",
    "seconds",
)


class TableRow(Value):
    """A condition. Gains and differences are score x 100, with 95% intervals over run seeds."""

    condition: str
    x: float | None = None
    series: str = ""
    seeds: int
    gain: float | None
    """Mean held-out paired gain over the naive prompt; None if not measured."""
    lo: float | None = None
    hi: float | None = None
    difference: float | None = None
    """Mean difference to the reference, paired by seed; None for the reference."""
    difference_lo: float | None = None
    difference_hi: float | None = None
    pairs: int = 0
    """Number of common seeds."""
    renders: float | None
    """Mean per run, like tokens and seconds; None for a condition that needs no run."""
    tokens: float | None
    seconds: float | None


class ExperimentTable(Value):
    """The table of an experiment."""

    experiment: str
    reference: str
    rows: tuple[TableRow, ...]
    cells: int
    budgets: tuple[int, ...]
    """Render budgets of the cells; several if the grid varies it."""
    commits: tuple[str, ...]


class _Group(Value):
    condition: str
    x: float | None
    series: str
    by_seed: dict[int, float]
    cells: tuple[ExperimentCell, ...]
    bought: bool
    """Whether the condition needs the run, so that the run's costs are its costs."""


def tabulate_cells(
    experiment: str, reference: str, cells: Sequence[ExperimentCell], order: Sequence[str] = ()
) -> ExperimentTable:
    """Make the table of an experiment; `order`: labels of the arms, other arms come last."""
    kept = in_order(cells, order)
    groups = _groups(kept)
    base = next((group.by_seed for group in groups if group.condition == reference), {})
    return ExperimentTable(
        experiment=experiment,
        reference=reference,
        rows=tuple(_row(group, {} if group.condition == reference else base) for group in groups),
        cells=len(kept),
        budgets=tuple(sorted({cell.budget for cell in kept})),
        commits=tuple(sorted({cell.commit for cell in kept if cell.commit})),
    )


def in_order(cells: Sequence[ExperimentCell], order: Sequence[str]) -> list[ExperimentCell]:
    """The newest cells in the order of the arms' labels and run seeds; other arms come last."""
    place = {label: index for index, label in enumerate(order)}
    return sorted(
        newest(cells), key=lambda cell: (place.get(cell.arm, len(place)), cell.arm, cell.seed)
    )


def _groups(cells: Sequence[ExperimentCell]) -> list[_Group]:
    """Groups by arm, and by condition if there are several."""
    by_arm: dict[str, list[ExperimentCell]] = defaultdict(list)
    for cell in cells:
        by_arm[cell.arm].append(cell)
    groups: list[_Group] = []
    for arm, members in by_arm.items():
        conditions = {name for cell in members for name in cell.gains} or {BEST}
        found: list[_Group] = []
        for condition in sorted(conditions):
            only = len(conditions) == 1
            found.append(
                _Group(
                    condition=_name(arm, condition, only=only, alone=len(by_arm) == 1),
                    x=members[0].x,
                    series=members[0].series,
                    by_seed={
                        cell.seed: mean(list(gains.values()))
                        for cell in members
                        if (gains := cell.gains.get(condition))
                    },
                    cells=tuple(members),
                    bought=condition == BEST or BEST not in conditions,
                )
            )
        groups += sorted(found, key=lambda group: -mean([*group.by_seed.values()] or [0.0]))
    return groups


def _name(arm: str, condition: str, *, only: bool, alone: bool) -> str:
    """The arm's name, the condition's name, or both if there are several of each."""
    if only:
        return arm
    return condition if alone else f"{arm}: {condition}"


def _row(group: _Group, base: Mapping[int, float]) -> TableRow:
    gains = list(group.by_seed.values())
    shared = sorted(group.by_seed.keys() & base.keys())
    gain = _estimate(gains)
    apart = _estimate([group.by_seed[seed] - base[seed] for seed in shared])
    return TableRow(
        condition=group.condition,
        x=group.x,
        series=group.series,
        seeds=len(group.cells),
        **dict(zip(("gain", "lo", "hi"), gain, strict=True)),
        **dict(zip(("difference", "difference_lo", "difference_hi"), apart, strict=True)),
        pairs=len(shared),
        **{
            name: mean([getattr(cell, name) for cell in group.cells]) if group.bought else None
            for name in ("renders", "tokens", "seconds")
        },
    )


def _estimate(values: Sequence[float]) -> list[float | None]:
    """Mean and bounds, score x 100; None without values."""
    found = mean_interval(values) if values else (None, None, None)
    return [None if value is None else round(100 * value, 4) for value in found]


def figure_rows(cells: Sequence[ExperimentCell]) -> list[tuple[str, int, Interval]]:
    """(name, number of runs with it, interval over runs) of each figure in the cells."""
    values: dict[str, list[float]] = defaultdict(list)
    for cell in newest(cells):
        for name, value in cell.figures.items():
            if value is not None:
                values[name].append(value)
    return [(name, len(found), mean_interval(found)) for name, found in values.items()]


class FaultRow(Value):
    """Numbers of runs of an arm that ended with a fault, by fault."""

    arm: str
    runs: int
    """Runs with diagnostics."""
    faults: dict[str, int]


def fault_rows(cells: Sequence[ExperimentCell], order: Sequence[str] = ()) -> list[FaultRow]:
    """One row per arm with diagnostics."""
    looked: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for cell in in_order(cells, order):
        if cell.faults is not None:
            looked[cell.arm].append(cell.faults)
    return [
        FaultRow(
            arm=arm, runs=len(runs), faults=dict(Counter(f for faults in runs for f in faults))
        )
        for arm, runs in looked.items()
    ]


def markdown(table: ExperimentTable) -> str:
    """The table in Markdown, with escaped conditions."""
    head = (
        "condition",
        "runs",
        "held-out gain [95%]",
        f"less {table.reference} [95%]",
        "renders",
        "tokens",
        "seconds",
    )
    rows = [
        [
            row.condition,
            str(row.seeds),
            estimate(row.gain, row.lo, row.hi),
            estimate(row.difference, row.difference_lo, row.difference_hi),
            *("-" if n is None else f"{n:.0f}" for n in (row.renders, row.tokens, row.seconds)),
        ]
        for row in table.rows
    ]
    return markdown_table(head, rows, right=True)


def csv_text(table: ExperimentTable) -> str:
    """The table as CSV with a header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table.rows:
        values = row.model_dump()
        writer.writerow([values[name] for name in COLUMNS])
    return buffer.getvalue()
