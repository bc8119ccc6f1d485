"""One self-contained HTML page of all experiments: tables, plots, and where each number comes from.

Texts come from models and files; jinja2 escapes them all. The only markup taken as it is are the
plots, which are drawn here from numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from bigpe.runtime.experiment_cells import Cell, newest, read_cells
from bigpe.runtime.experiment_contrasts import contrasts, further_tables, trends
from bigpe.runtime.experiment_grids import EXPERIMENTS, Experiment
from bigpe.runtime.experiment_plots import curves_svg, gains_svg
from bigpe.runtime.experiment_tables import (
    ExperimentTable,
    FaultRow,
    fault_rows,
    figure_rows,
    tabulate_cells,
)
from bigpe.runtime.formatting import estimate
from bigpe.services.errors import ConfigError

TEMPLATE = "report.html.j2"
PEERS = {
    "peers-dev": "How does bigpe compare with other optimisers at equal renders? (for tuning)",
    "peers-final": "How does bigpe compare with other optimisers at equal renders? (run once)",
}
"""Grids of scripts/bench_peers.py, by the name of their cells."""
PEERS_REFERENCE, PEERS_AXIS = "gepa@400", "renders"


class Part(NamedTuple):
    """An experiment on the page."""

    name: str
    question: str
    command: str
    """What makes it."""
    table: ExperimentTable | None
    """None: no cell has run yet."""
    further: list[list[list[str]]]
    """Tables of texts, their heads first: what the grid says line by line."""
    figures: list[tuple[str, int, Any]]
    faults: list[FaultRow]
    plots: list[str]
    examples: list[Cell]
    """Runs whose instructions are shown."""


def part_of(experiment: Experiment, cells: Sequence[Cell]) -> Part:
    """What the page shows of an experiment."""
    order = experiment.labels
    table = tabulate_cells(experiment.name, experiment.reference, cells, order) if cells else None
    command = f"bigpe experiment run {experiment.name}"
    part = _part(
        experiment.name, experiment.question, command, table, cells, order, experiment.axis
    )
    return part._replace(further=further_tables(contrasts(cells, order), trends(cells, order)))


def peers_part(name: str, cells: Sequence[Cell]) -> Part:
    """What the page shows of a race against other optimisers; `name`: one of `PEERS`."""
    table = peers_table(name, cells) if cells else None
    bench = "" if name == "peers-dev" else " --bench final"
    command = f"scripts/bench_peers.py{bench}"
    return _part(name, PEERS[name], command, table, cells, _entries(cells), PEERS_AXIS)


def peers_table(
    name: str, cells: Sequence[Cell], reference: str = PEERS_REFERENCE
) -> ExperimentTable:
    """Every method at every budget, compared with the entry `reference`."""
    return tabulate_cells(name, reference, cells, _entries(cells))


def _entries(cells: Sequence[Cell]) -> list[str]:
    return [cell.arm for cell in sorted(cells, key=lambda cell: (cell.series, cell.x or 0))]


def _part(
    name: str,
    question: str,
    command: str,
    table: ExperimentTable | None,
    cells: Sequence[Cell],
    order: Sequence[str],
    axis: str,
) -> Part:
    if table is None:
        return Part(name, question, command, None, [], [], [], [], [])
    figures, faults = figure_rows(cells), fault_rows(cells, order)
    plots = plots_of(table, cells, axis)
    return Part(name, question, command, table, [], figures, faults, plots, newest(cells)[-5:])


def plots_of(table: ExperimentTable, cells: Sequence[Cell], axis: str) -> list[str]:
    """The table as a plot, then the pool's diversity where cells tell it."""
    diversity = curves_svg(cells, "diversity", label="pool diversity", axis=axis)
    return [gains_svg(table, axis=axis), *([diversity] if diversity else [])]


def report_html(folder: Path) -> str:
    """The page of all experiments whose cells lie in `folder`; ConfigError when there are none."""
    found = {name: read_cells(folder / f"{name}.jsonl") for name in (*EXPERIMENTS, *PEERS)}
    if not any(found.values()):
        raise ConfigError(
            f"there are no cells in {folder}; run `bigpe experiment run baselines` first, "
            "or name the folder with --cells"
        )
    parts = [part_of(EXPERIMENTS[name], found[name]) for name in EXPERIMENTS]
    parts += [peers_part(name, found[name]) for name in PEERS]
    latest = max(cell.finished for cells in found.values() for cell in cells)
    made = time.strftime("%Y-%m-%d", time.gmtime(latest))
    return _environment().get_template(TEMPLATE).render(parts=parts, latest=made)


def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError('the page needs jinja2: pip install "bigpe[report]"') from error

    def load(name: str) -> str:
        return (files("bigpe.runtime") / name).read_text("utf-8")

    environment: Any = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["estimate"] = partial(estimate, absent="–")
    environment.filters["number"] = _number
    return environment


def _number(count: float | None) -> str:
    return "–" if count is None else f"{count:,.0f}"
