"""`bigpe experiment table`, and the files that `bigpe experiment run` writes beside the cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.cli.common import json_option, print_json
from bigpe.runtime.cli.results.experiment import (
    Target,
    experiment_options,
    only_option,
    plot_option,
)
from bigpe.runtime.experiments.cells import ExperimentCell
from bigpe.runtime.experiments.grids import Experiment, chosen_arms
from bigpe.runtime.experiments.report.contrasts import (
    Contrast,
    Trend,
    contrasts,
    further_tables,
    trends,
)
from bigpe.runtime.experiments.report.page import plots_of
from bigpe.runtime.experiments.report.tables import (
    ExperimentTable,
    FaultRow,
    csv_text,
    fault_rows,
    figure_rows,
    markdown,
    tabulate_cells,
)
from bigpe.runtime.formatting import estimate, markdown_table
from bigpe.services.core.errors import ConfigError, StoreError


class ExperimentSummary(NamedTuple):
    """Table, contrasts, trends and figures of an experiment."""

    experiment: Experiment
    table: ExperimentTable
    contrasts: list[Contrast]
    trends: list[Trend]
    figures: list[tuple[str, int, Interval]]
    faults: list[FaultRow]

    def as_json(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {
            "question": self.experiment.question,
            **self.table.model_dump(mode="json"),
            "contrasts": [contrast.model_dump(mode="json") for contrast in self.contrasts],
            "trends": [trend.model_dump(mode="json") for trend in self.trends],
            "figures": [
                {"figure": name, "runs": runs, "value": i.mean, "lo": i.lo, "hi": i.hi}
                for name, runs, i in self.figures
            ],
            "faults": [row.model_dump(mode="json") for row in self.faults],
        }


@click.command(
    epilog="""
\b
Examples:
  bigpe experiment table exploration -p lab
  bigpe experiment table policies --only ucb1 --only greedy
  bigpe experiment table baselines --reference "LLM without instruction"
"""
)
@experiment_options
@only_option
@click.option("--reference", metavar="CONDITION", help="Compare the others with this condition.")
@plot_option
@json_option
def table(
    target: Target, only: tuple[str, ...], reference: str | None, plot: bool, as_json: bool
) -> None:
    """Print the table of experiment NAME from its finished cells; run nothing.

    The table, its JSON and its plots are also written beside the cells. With --only or --reference
    the table is only printed.
    """
    chosen, cells = target.experiment, target.finished()
    if only or reference:
        labels = {arm.label for arm in chosen_arms(chosen, only)}
        summary = summarise(chosen, [cell for cell in cells if cell.arm in labels], reference)
    else:
        summary = summarise(chosen, cells)
        write_files(summary, cells, target.cells.parent.parent, plot=plot)
    print_table(summary, as_json=as_json)


def summarise(
    chosen: Experiment, cells: Sequence[ExperimentCell], reference: str | None = None
) -> ExperimentSummary:
    """Summarise `cells` against `reference`. ConfigError if the table has no such condition."""
    table = tabulate_cells(chosen.name, reference or chosen.reference, cells, chosen.labels)
    conditions = [row.condition for row in table.rows]
    if reference and reference not in conditions:
        raise ConfigError(
            f"--reference {reference!r}: the table of {chosen.name} has no such condition; "
            f"it has: {'; '.join(conditions)}"
        )
    return ExperimentSummary(
        chosen,
        table,
        contrasts(cells, chosen.labels),
        trends(cells, chosen.labels),
        figure_rows(cells),
        fault_rows(cells, chosen.labels),
    )


def print_table(summary: ExperimentSummary, *, as_json: bool) -> None:
    """Print the tables and figures, or all as JSON."""
    if as_json:
        print_json(summary.as_json())
        return
    further = further_tables(summary.contrasts, summary.trends)
    tables = [markdown_table(head, rows, right=True) for head, *rows in further]
    texts = [f"{summary.experiment.question}\n", markdown(summary.table), *tables]
    click.echo("\n".join(texts))
    for name, runs, figure in summary.figures:
        click.echo(f"{name}: {estimate(*figure, form='.3f')} ({runs} runs)")


def write_files(
    summary: ExperimentSummary, cells: Sequence[ExperimentCell], folder: Path, *, plot: bool
) -> None:
    """Write the table as Markdown, CSV and JSON into `folder`, and its plots when `plot`."""
    name = summary.experiment.name
    texts = {
        f"{name}.md": markdown(summary.table),
        f"{name}.csv": csv_text(summary.table),
        f"{name}.json": json.dumps(summary.as_json(), indent=1),
    }
    plots = plots_of(summary.table, cells, summary.experiment.axis) if plot else []
    for number, svg in enumerate(plots):
        texts[f"{name}{'' if number == 0 else f'-{number + 1}'}.svg"] = svg
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror or error}") from error
