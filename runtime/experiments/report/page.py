"""The self-contained HTML page of all experiments: tables, plots, and the source of each number.

jinja2 escapes all texts, which come from models and files. Only the plots are inserted as markup.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from bigpe.runtime.experiments.cells import POOL_DIVERSITY, ExperimentCell, newest, read_cells
from bigpe.runtime.experiments.grids import EXPERIMENTS, Experiment
from bigpe.runtime.experiments.report.contrasts import contrasts, further_tables, trends
from bigpe.runtime.experiments.report.plots import curves_svg, gains_svg
from bigpe.runtime.experiments.report.tables import (
    ExperimentTable,
    FaultRow,
    fault_rows,
    figure_rows,
    tabulate_cells,
)
from bigpe.runtime.formatting import estimate
from bigpe.services.core.errors import ConfigError

TEMPLATE = "page.html.j2"


class Part(NamedTuple):
    """An experiment on the page."""

    name: str
    question: str
    command: str
    """The command that runs the experiment."""
    table: ExperimentTable | None
    """None: there is no cell yet."""
    further: list[list[list[str]]]
    """Tables of contrasts and trends, with their heads."""
    figures: list[tuple[str, int, Any]]
    faults: list[FaultRow]
    plots: list[str]
    examples: list[ExperimentCell]
    """Runs whose instructions are on the page."""


def part_of(experiment: Experiment, cells: Sequence[ExperimentCell]) -> Part:
    """The content of the page for an experiment."""
    order = experiment.labels
    name, question = experiment.name, experiment.question
    command = f"bigpe experiment run {name}"
    if not cells:
        return Part(name, question, command, None, [], [], [], [], [])
    table = tabulate_cells(name, experiment.reference, cells, order)
    further = further_tables(contrasts(cells, order), trends(cells, order))
    figures, faults = figure_rows(cells), fault_rows(cells, order)
    plots = plots_of(table, cells, experiment.axis)
    return Part(name, question, command, table, further, figures, faults, plots, newest(cells)[-5:])


def plots_of(table: ExperimentTable, cells: Sequence[ExperimentCell], axis: str) -> list[str]:
    """The plot of the table, and of the pool's diversity if cells have it."""
    diversity = curves_svg(cells, POOL_DIVERSITY, label=POOL_DIVERSITY, axis=axis)
    return [gains_svg(table, axis=axis), *([diversity] if diversity else [])]


def report_html(folder: Path) -> str:
    """The page of all experiments with cells in `folder`. ConfigError if there are none."""
    found = {name: read_cells(folder / f"{name}.jsonl") for name in EXPERIMENTS}
    if not any(found.values()):
        raise ConfigError(
            f"there are no cells in {folder}; run `bigpe experiment run baselines` first, "
            "or name the folder with --cells"
        )
    parts = [part_of(EXPERIMENTS[name], found[name]) for name in EXPERIMENTS]
    latest = max(cell.finished for cells in found.values() for cell in cells)
    made = time.strftime("%Y-%m-%d", time.gmtime(latest))
    return _environment().get_template(TEMPLATE).render(parts=parts, latest=made)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"estimate": partial(estimate, absent="–"), "number": _number}
    environment.filters.update(filters)
    return environment


def _number(count: float | None) -> str:
    return "–" if count is None else f"{count:,.0f}"
