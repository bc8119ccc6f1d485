"""`bigpe experiment`: the group of commands, `list`, and the options that the commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from bigpe.runtime.cli import LazyGroup
from bigpe.runtime.cli.common import json_option, print_json, project_option
from bigpe.runtime.experiments.cells import DEFAULT_FOLDER, ExperimentCell, read_cells
from bigpe.runtime.experiments.grids import EXPERIMENTS, Experiment, experiment_named
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError

COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("results.experiment:list_experiments", "List the experiments and their questions."),
    "run": ("results.experiment_run:run", "Run the missing cells of a grid and write its table."),
    "forecast": ("results.experiment_run:forecast", "Print what the missing cells of a grid take."),
    "table": ("results.experiment_table:table", "Print the table of the finished cells."),
    "worksheet": (
        "results.experiment_gradients:worksheet",
        "Write gradients to a CSV for people to judge.",
    ),
    "validity": (
        "results.experiment_gradients:validity",
        "Compare the gradients of stored runs with known effects.",
    ),
    "agreement": (
        "results.experiment_gradients:agreement",
        "Compare the worksheets of two people.",
    ),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog="""
\b
Examples:
  bigpe experiment list
  bigpe experiment forecast batch-size -p lab
  bigpe experiment run baselines -p lab --seeds 5
  bigpe experiment table baselines -p lab
""",
)
def experiment() -> None:
    """Run a grid of configurations over several seeds, and print its table."""


@click.command("list", epilog="\b\nExample:\n  bigpe experiment list --json")
@json_option
def list_experiments(as_json: bool) -> None:
    """List the experiments and the question that each answers."""
    if as_json:
        print_json([{"name": e.name, "question": e.question} for e in EXPERIMENTS.values()])
        return
    for item in EXPERIMENTS.values():
        click.echo(f"{item.name:18} {item.question}")


class Target(NamedTuple):
    """The experiment that a command is about, and where its cells are stored."""

    experiment: Experiment
    project: Project
    cells: Path
    """The JSON lines file of the finished cells."""

    def finished(self) -> list[ExperimentCell]:
        """The finished cells. ConfigError if there is none."""
        cells = read_cells(self.cells)
        if not cells:
            raise ConfigError(f"no cell of {self.experiment.name} has run yet ({self.cells})")
        return cells


Command = Callable[..., None]

cells_option = click.option(
    "--cells",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder of the finished cells [default: {DEFAULT_FOLDER} in the project].",
)
only_option = click.option(
    "--only", multiple=True, metavar="ARM", help="Only this arm of the grid; repeatable."
)
plot_option = click.option("--plot/--no-plot", default=True, show_default=True)


def experiment_options(command: Command) -> Command:
    """Add NAME, --project and --cells; `command` receives them as one `Target`."""

    @wraps(command)
    def with_target(name: str, project: Path, cells: Path | None, **options: Any) -> None:
        chosen = experiment_named(name)
        folder = cells or project / DEFAULT_FOLDER
        command(Target(chosen, Project(project), folder / f"{chosen.name}.jsonl"), **options)

    return click.argument("name")(project_option(cells_option(with_target)))
