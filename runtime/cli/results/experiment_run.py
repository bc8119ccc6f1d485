"""`bigpe experiment run` and `bigpe experiment forecast`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from bigpe.runtime.cli.common import (
    PAUSED,
    json_option,
    perform,
    print_json,
    set_option,
    stderr,
    with_changes,
)
from bigpe.runtime.cli.results.experiment import (
    Command,
    Target,
    experiment_options,
    only_option,
    plot_option,
)
from bigpe.runtime.cli.results.experiment_table import print_table, summarise, write_files
from bigpe.runtime.cli.signals import Interrupts
from bigpe.runtime.experiments import runner
from bigpe.runtime.experiments.cells import read_cells
from bigpe.runtime.experiments.gradient_validity import read_truth
from bigpe.runtime.experiments.grids import chosen_arms
from bigpe.runtime.experiments.measures import Judging
from bigpe.runtime.experiments.runner import ExperimentProgress, Grid, run_grid
from bigpe.runtime.experiments.shared_models import Stopwatches, open_models
from bigpe.runtime.project.config import load_config
from bigpe.runtime.run.monitoring.logging import configure_logging
from bigpe.runtime.run.plan import naive_set
from bigpe.services.core.errors import ConfigError

GRID_OPTIONS: dict[str, Callable[[Command], Command]] = {
    "seeds": click.option(
        "--seeds", default=5, show_default=True, type=click.IntRange(1), help="Run seeds."
    ),
    "first_seed": click.option(
        "--first-seed", default=0, show_default=True, type=click.IntRange(0)
    ),
    "renders": click.option(
        "--renders",
        default=200,
        show_default=True,
        type=click.IntRange(10),
        help="Budget of each run.",
    ),
    "test_prompts": click.option(
        "--test-prompts", default=24, show_default=True, type=click.IntRange(2)
    ),
    "only": only_option,
    "changes": set_option,
    "truth": click.option(
        "--truth",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Known effects of terms, JSON.",
    ),
    "other": click.option(
        "--other",
        multiple=True,
        metavar="KEY=VALUE",
        help="[render] setting of the other renderer.",
    ),
}


def grid_options(command: Command) -> Command:
    """Add the options that describe a grid; `command` receives them as one `Grid`."""

    @wraps(command)
    def with_grid(target: Target, **options: Any) -> None:
        given = {name: options.pop(name) for name in GRID_OPTIONS}
        command(_grid(target, **given), **options)

    decorated: Command = with_grid
    for option in reversed(GRID_OPTIONS.values()):
        decorated = option(decorated)
    return experiment_options(decorated)


def _grid(
    target: Target,
    *,
    seeds: int,
    first_seed: int,
    renders: int,
    test_prompts: int,
    only: tuple[str, ...],
    changes: tuple[str, ...],
    truth: Path | None,
    other: tuple[str, ...],
) -> Grid:
    chosen, project, cells = target
    config = with_changes(load_config(project.config), changes)
    transfer = chosen.measure == "transfer"
    return Grid(
        experiment=chosen,
        arms=chosen_arms(chosen, only),
        seeds=tuple(range(first_seed, first_seed + seeds)),
        renders=renders,
        base=config,
        project=project,
        cells=cells,
        judging=Judging(
            test_prompts=test_prompts,
            truth=read_truth(truth) if truth else {},
            other_renderer=_render_settings(other),
            everything=tuple(naive_set(config, project.folder).splits.places) if transfer else (),
        ),
    )


def _render_settings(changes: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for change in changes:
        key, sign, text = change.partition("=")
        if not sign:
            raise ConfigError(f"--other {change}: write it as key=value, a setting of [render]")
        try:
            settings[key.strip()] = json.loads(text)
        except ValueError:
            settings[key.strip()] = text
    return settings


def _stopwatches(grid: Grid) -> Stopwatches:
    return Stopwatches(grid.project.folder / "experiments" / "seconds.json")


@click.command(
    epilog="""
\b
Examples:
  bigpe experiment run baselines -p lab --seeds 5
  bigpe experiment run policies -p lab --only ucb1 --only greedy --max-minutes 60
  bigpe experiment run gradient-validity -p lab --truth docs/results/world-truth.json
"""
)
@grid_options
@click.option(
    "--max-minutes", default=0.0, type=click.FloatRange(0), help="Begin no cell after N minutes."
)
@plot_option
@json_option
def run(grid: Grid, max_minutes: float, plot: bool, as_json: bool) -> None:
    """Run the missing cells of experiment NAME one by one, and write its table.

    Each finished cell is one line of CELLS/NAME.jsonl; a cell in that file is not run again.
    Ctrl-C finishes what is in flight; the next call continues.
    """
    configure_logging(grid.project.log("experiment"), verbose=False)
    code = perform(_run_missing(grid, max_minutes))
    if cells := read_cells(grid.cells):
        summary = summarise(grid.experiment, cells)
        write_files(summary, cells, grid.cells.parent.parent, plot=plot)
        print_table(summary, as_json=as_json)
    raise SystemExit(code)


async def _run_missing(grid: Grid, max_minutes: float) -> int:
    """Run the missing cells and report each; returns the exit code."""
    console, stop, watches = stderr(), asyncio.Event(), _stopwatches(grid)
    report = _reporter(console)
    with Interrupts(console) as interrupts, suppress(asyncio.CancelledError):
        interrupts.pause_first(stop.set, stop.is_set)
        async with open_models(grid.base, grid.project, watches) as models:
            await run_grid(
                grid, models, watches, max_minutes=max_minutes, on_cell=report, stop=stop
            )
    if missing := len(grid.missing()):
        console.print(Text(f"{missing} cells are still to be run; the same command continues"))
    return PAUSED if stop.is_set() else 0


def _reporter(console: Console) -> Callable[[ExperimentProgress], None]:
    """Print one line for each finished cell, with the time that is left."""
    start = time.monotonic()

    def report(progress: ExperimentProgress) -> None:
        cell, number, total, wall_s = progress
        left = (time.monotonic() - start) / number * (total - number)
        gains = ", ".join(
            f"{name} {100 * sum(gains.values()) / len(gains):+.2f}"
            for name, gains in cell.gains.items()
            if gains
        )
        console.print(
            Text(
                f"[{number}/{total}] {cell.arm}, seed {cell.seed}: {gains} "
                f"({cell.renders} renders, {wall_s:.0f} s); about {left / 60:.0f} min left"
            ),
            soft_wrap=True,
        )

    return report


@click.command(
    epilog="""
\b
Examples:
  bigpe experiment forecast batch-size -p lab
  bigpe experiment forecast baselines -p lab --seeds 3 --renders 100 --json
"""
)
@grid_options
@json_option
def forecast(grid: Grid, as_json: bool) -> None:
    """Print how many cells of experiment NAME are missing, and what they take; run nothing."""
    watches = _stopwatches(grid)
    expected = runner.forecast(grid, watches)
    if as_json:
        print_json(expected._asdict())
        return
    click.echo(
        f"{expected.missing} of {expected.cells} cells are missing: "
        f"at most {expected.renders} renders"
    )
    if expected.hours is None:
        click.echo("no call has been measured here yet: run one cell (--seeds 1 --only ARM) first")
        return
    rate = ", ".join(
        f"{kind} {seconds:.2f} s"
        for kind, watch in watches.of.items()
        if (seconds := watch.seconds) is not None
    )
    click.echo(
        f"at most {expected.hours:.1f} hours, one call after the other ({rate}); "
        "calls that cells share are paid once"
    )
