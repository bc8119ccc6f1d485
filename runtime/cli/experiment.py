"""`bigpe experiment`."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.text import Text

from bigpe.agents.intervals import Interval
from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    stderr,
)
from bigpe.runtime.cli.run import PAUSED, with_changes
from bigpe.runtime.config import load_config
from bigpe.runtime.experiment_cells import DEFAULT_FOLDER, Cell, read_cells
from bigpe.runtime.experiment_contrasts import (
    Contrast,
    Trend,
    contrasts,
    further_tables,
    trends,
)
from bigpe.runtime.experiment_grids import (
    EXPERIMENTS,
    Experiment,
    chosen_arms,
    experiment_named,
)
from bigpe.runtime.experiment_measures import Judging, claims_of_runs
from bigpe.runtime.experiment_tables import (
    ExperimentTable,
    FaultRow,
    csv_text,
    fault_rows,
    figure_rows,
    markdown,
    markdown_table,
    tabulate_cells,
)
from bigpe.runtime.experiments import Grid, Progress, forecast, run_grid
from bigpe.runtime.gradient_validity import agreement, read_truth, read_verdicts, write_worksheet
from bigpe.runtime.lending import Stopwatches, open_models
from bigpe.runtime.plan import naive_set
from bigpe.runtime.project import Project
from bigpe.runtime.report_page import plots_of
from bigpe.runtime.telemetry import configure_logging
from bigpe.services.errors import ConfigError, StoreError

NAMES = "\n".join(f"  {one.name:18} {one.question}" for one in EXPERIMENTS.values())


@click.command(
    epilog=f"""
\b
Experiments:
{NAMES}

\b
Examples:
  bigpe experiment baselines -p lab --seeds 5
  bigpe experiment batch-size -p lab --dry-run
  bigpe experiment policies -p lab --only ucb1 --only greedy --max-minutes 60
  bigpe experiment gradient-validity -p lab --truth docs/results/world-truth.json
  bigpe experiment gradient-validity -p lab --worksheet claims.csv
  bigpe experiment gradient-validity --ratings ann.csv ben.csv
  bigpe experiment exploration --table        the table again, without running anything
  bigpe experiment baselines --table --reference "LLM without instruction"
"""
)
@click.argument("name")
@project_option
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Run seeds.")
@click.option("--first-seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--renders", default=200, show_default=True, type=click.IntRange(10), help="Budget of a run."
)
@click.option("--test-prompts", default=24, show_default=True, type=click.IntRange(2))
@click.option("--only", multiple=True, metavar="ARM", help="Only this arm of the grid; repeatable.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Override a setting.")
@click.option(
    "--cells",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder of the finished cells [default: {DEFAULT_FOLDER} in the project].",
)
@click.option(
    "--truth", type=click.Path(path_type=Path, dir_okay=False), help="Known effects of terms, JSON."
)
@click.option(
    "--other", multiple=True, metavar="KEY=VALUE", help="[render] setting of the other renderer."
)
@click.option(
    "--worksheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the runs' gradients here (CSV), for people to judge.",
)
@click.option(
    "--ratings",
    nargs=2,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="A B",
    help="Two filled worksheets: print how far they agree.",
)
@click.option("--max-minutes", default=0.0, type=click.FloatRange(0), help="Begin no cell after.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; run nothing.")
@click.option("--table", "only_table", is_flag=True, help="Show the table of what has run.")
@click.option(
    "--reference", metavar="CONDITION", help="With --table: what the others are compared with."
)
@click.option("--plot/--no-plot", default=True, show_default=True)
@json_option
def experiment(
    name: str,
    project: Path,
    seeds: int,
    first_seed: int,
    renders: int,
    test_prompts: int,
    only: tuple[str, ...],
    changes: tuple[str, ...],
    cells: Path | None,
    truth: Path | None,
    other: tuple[str, ...],
    worksheet: Path | None,
    ratings: tuple[Path, Path] | None,
    max_minutes: float,
    dry_run: bool,
    only_table: bool,
    reference: str | None,
    plot: bool,
    as_json: bool,
) -> None:
    """Run the grid of experiment NAME, a cell at a time, and write its table.

    Each finished cell is one line of CELLS/NAME.jsonl; a cell found there is not run again.
    Ctrl-C finishes what is in flight; the next call goes on.
    """
    chosen = experiment_named(name)
    folder = cells or project / DEFAULT_FOLDER
    path = folder / f"{chosen.name}.jsonl"
    if ratings:
        raise SystemExit(tell_agreement(*ratings, as_json=as_json))
    if reference and not only_table:
        raise ConfigError("--reference says how --table compares: give both")
    if only_table and (reference or only):
        raise SystemExit(show_part(chosen, path, only, reference, as_json=as_json))
    if only_table:
        raise SystemExit(show(chosen, path, plot=plot, as_json=as_json))
    place = Project(project)
    config = with_changes(load_config(place.config), changes)
    grid = Grid(
        experiment=chosen,
        arms=chosen_arms(chosen, only),
        seeds=tuple(range(first_seed, first_seed + seeds)),
        renders=renders,
        base=config,
        project=place,
        cells=path,
        judging=Judging(
            test_prompts=test_prompts,
            truth=read_truth(truth) if truth else {},
            other_renderer=_render_settings(other),
            everything=_everything(chosen, config, place),
        ),
    )
    watches = Stopwatches(place.folder / "experiments" / "seconds.json")
    if dry_run:
        raise SystemExit(tell_forecast(grid, watches, as_json=as_json))
    configure_logging(place.log("experiment"), verbose=False)
    code = perform(_go(grid, watches, max_minutes))
    if worksheet:
        runs = list(dict.fromkeys(cell.run for cell in read_cells(path)))
        claims = perform(claims_of_runs(place, runs))
        write_worksheet(worksheet, claims)
        click.echo(f"wrote {len(claims)} gradients to {worksheet}", err=True)
    raise SystemExit(show(chosen, path, plot=plot, as_json=as_json) or code)


def _everything(chosen: Experiment, config: Any, place: Project) -> tuple[str, ...]:
    if chosen.measure != "transfer":
        return ()
    return tuple(naive_set(config, place.folder).splits.places)


def _render_settings(other: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for change in other:
        key, sign, text = change.partition("=")
        if not sign:
            raise ConfigError(f"--other {change}: write it as key=value, a setting of [render]")
        try:
            settings[key.strip()] = json.loads(text)
        except ValueError:
            settings[key.strip()] = text
    return settings


async def _go(grid: Grid, watches: Stopwatches, max_minutes: float) -> int:
    """Run the missing cells, telling of each; the exit code."""
    console = stderr()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    start = time.monotonic()

    def on_signal() -> None:
        if stop.is_set() and main is not None:
            main.cancel()
        stop.set()
        console.print(Text("finishing what is in flight; press Ctrl-C again to stop at once"))

    def tell(progress: Progress) -> None:
        left = (time.monotonic() - start) / progress.number * (progress.of - progress.number)
        told = ", ".join(
            f"{name} {100 * sum(gains.values()) / len(gains):+.2f}"
            for name, gains in progress.cell.gains.items()
            if gains
        )
        console.print(
            Text(
                f"[{progress.number}/{progress.of}] {progress.cell.arm}, seed {progress.cell.seed}:"
                f" {told} ({progress.cell.renders} renders, {progress.wall_s:.0f} s); "
                f"about {left / 60:.0f} min left"
            ),
            soft_wrap=True,
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        async with open_models(grid.base, grid.project, watches) as models:
            with suppress(asyncio.CancelledError):
                await run_grid(
                    grid, models, watches, max_minutes=max_minutes, on_cell=tell, stop=stop
                )
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if left := len(grid.missing()):
        console.print(Text(f"{left} cells are still to be run; the same command goes on"))
    return PAUSED if stop.is_set() else 0


def tell_forecast(grid: Grid, watches: Stopwatches, *, as_json: bool) -> int:
    """Print what the missing cells will take."""
    told = forecast(grid, watches)
    if as_json:
        print_json(told._asdict())
        return 0
    rate = ", ".join(
        f"{kind} {seconds:.2f} s"
        for kind, watch in watches.of.items()
        if (seconds := watch.seconds) is not None
    )
    click.echo(f"{told.missing} of {told.cells} cells are missing: at most {told.renders} renders")
    if told.hours is None:
        click.echo("no call has been measured here yet: run one cell (--seeds 1 --only ARM) first")
    else:
        click.echo(
            f"at most {told.hours:.1f} hours, one call after the other ({rate}); "
            "calls that cells share are paid once"
        )
    return 0


def tell_agreement(one: Path, other: Path, *, as_json: bool) -> int:
    """Print how two raters' worksheets agree, and how many claims each holds true."""
    verdicts = [read_verdicts(path) for path in (one, other)]
    found = agreement(*verdicts)
    if not found.n:
        raise ConfigError(f"{one} and {other} judge no gradient in common: fill their last column")
    true = [sum(v == "true" for v in given.values()) / len(given) for given in verdicts]
    if as_json:
        print_json({**found._asdict(), "true": true})
        return 0
    kappa = "not defined" if found.kappa is None else f"{found.kappa:.2f}"
    click.echo(
        f"{found.n} gradients judged by both: {found.observed:.0%} alike, Cohen's kappa {kappa}; "
        f"held true: {true[0]:.0%} and {true[1]:.0%}"
    )
    return 0


def show(chosen: Experiment, path: Path, *, plot: bool, as_json: bool) -> int:
    """Write table, JSON and plot beside the cells and print the table; the exit code."""
    cells = _cells(chosen, path)
    shown = _shown(chosen, cells, chosen.reference)
    plots = plots_of(shown.table, cells, chosen.axis) if plot else []
    _write(chosen, path.parent.parent, shown, plots)
    return _print(chosen, shown, as_json=as_json)


def show_part(
    chosen: Experiment, path: Path, only: tuple[str, ...], reference: str | None, *, as_json: bool
) -> int:
    """Print the table of some arms, or against another reference; no file is written."""
    labels = {arm.label for arm in chosen_arms(chosen, only)}
    cells = [cell for cell in _cells(chosen, path) if cell.arm in labels]
    shown = _shown(chosen, cells, reference or chosen.reference)
    conditions = [row.condition for row in shown.table.rows]
    if reference and reference not in conditions:
        raise ConfigError(
            f"--reference {reference!r}: the table of {chosen.name} has no such condition; "
            f"it has: {'; '.join(conditions)}"
        )
    return _print(chosen, shown, as_json=as_json)


class _Shown(NamedTuple):
    """All that is told of an experiment's cells."""

    table: ExperimentTable
    contrasts: list[Contrast]
    trends: list[Trend]
    figures: list[tuple[str, int, Interval]]
    faults: list[FaultRow]


def _cells(chosen: Experiment, path: Path) -> list[Cell]:
    cells = read_cells(path)
    if not cells:
        raise ConfigError(f"no cell of {chosen.name} has run yet ({path})")
    return cells


def _shown(chosen: Experiment, cells: list[Cell], reference: str) -> _Shown:
    return _Shown(
        tabulate_cells(chosen.name, reference, cells, chosen.labels),
        contrasts(cells, chosen.labels),
        trends(cells, chosen.labels),
        figure_rows(cells),
        fault_rows(cells, chosen.labels),
    )


def _json(chosen: Experiment, shown: _Shown) -> dict[str, Any]:
    return {
        "question": chosen.question,
        **shown.table.model_dump(mode="json"),
        "contrasts": [one.model_dump(mode="json") for one in shown.contrasts],
        "trends": [one.model_dump(mode="json") for one in shown.trends],
        "figures": [
            {"figure": name, "runs": runs, "value": i.mean, "lo": i.lo, "hi": i.hi}
            for name, runs, i in shown.figures
        ],
        "faults": [row.model_dump(mode="json") for row in shown.faults],
    }


def _print(chosen: Experiment, shown: _Shown, *, as_json: bool) -> int:
    if as_json:
        print_json(_json(chosen, shown))
        return 0
    further = further_tables(shown.contrasts, shown.trends)
    tables = [markdown(shown.table), *(markdown_table(head, rows) for head, *rows in further)]
    click.echo("\n".join([f"{chosen.question}\n", *tables]))
    for name, runs, interval in shown.figures:
        bounds = "" if interval.lo is None else f" [{interval.lo:.3f}, {interval.hi:.3f}]"
        click.echo(f"{name}: {interval.mean:.3f}{bounds} ({runs} runs)")
    return 0


def _write(chosen: Experiment, folder: Path, shown: _Shown, plots: list[str]) -> None:
    told = json.dumps(_json(chosen, shown), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{chosen.name}.md").write_text(markdown(shown.table), encoding="utf-8")
        (folder / f"{chosen.name}.csv").write_text(csv_text(shown.table), encoding="utf-8")
        (folder / f"{chosen.name}.json").write_text(told, encoding="utf-8")
        for number, svg in enumerate(plots):
            suffix = "" if number == 0 else f"-{number + 1}"
            (folder / f"{chosen.name}{suffix}.svg").write_text(svg, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror or error}") from error
