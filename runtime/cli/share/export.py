"""`bigpe export`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    read_store,
    reading,
    run_argument,
)
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.run.style import UncalledLlm, style_of
from bigpe.runtime.sharing.best import BestInstruction, best_instruction
from bigpe.runtime.sharing.files import write_comparisons, write_messages, write_page
from bigpe.runtime.sharing.mlflow_tracker import to_mlflow
from bigpe.runtime.sharing.trackers import Tracked, tracked
from bigpe.runtime.sharing.wandb_tracker import to_wandb
from bigpe.services.core.errors import ConfigError
from bigpe.services.render.prompt_profile import PromptProfile, profile_of

TRACKERS = ("mlflow", "wandb")
FORMS = ("html", "jsonl", "parquet")


@click.command(
    epilog="""
\b
Examples:
  bigpe export                          all three, into runs/main-export/
  bigpe export main --form html -o .    main.html: one file that loads nothing else
  bigpe export wide --form jsonl --form parquet -o out
  bigpe export --to mlflow              to MLFLOW_TRACKING_URI, else runs/main-export/mlruns
  bigpe export --to wandb -o tracked    an offline run that `wandb sync` uploads
  bigpe export --system-prompt          the best instruction as a system prompt for any chat model
"""
)
@run_argument
@project_option
@click.option(
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(FORMS),
    help="html: a page; jsonl: all messages; parquet: all comparisons  [default: all three]",
)
@click.option(
    "--to",
    "trackers",
    multiple=True,
    type=click.Choice(TRACKERS),
    help="An experiment tracker; a second export adds only new data.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files  [default: runs/RUN-export in the project]",
)
@click.option(
    "--system-prompt",
    is_flag=True,
    help="Print the best instruction as a system prompt for any chat model, and write nothing.",
)
@json_option
def export(
    run: str,
    project: Path,
    forms: tuple[str, ...],
    trackers: tuple[str, ...],
    output: Path | None,
    system_prompt: bool,
    as_json: bool,
) -> None:
    """Write a run as a static page (one file), JSON lines and Parquet, or to an experiment
    tracker; works while it runs."""
    if system_prompt:
        if forms or trackers or output:
            raise ConfigError("--system-prompt writes no files: use it without --form, --to and -o")
        _print_system_prompt(run, project, as_json=as_json)
        return
    folder = output or Project(project).folder / "runs" / f"{run}-export"
    wanted = forms or (() if trackers else FORMS)
    written: dict[str, str] = {}
    if wanted:
        files = perform(_export(run, project, wanted, folder))
        written |= {str(path): size for path, size in files.items()}
    if trackers:
        record = read_store(project, lambda store: tracked(store, run), run)
        for tracker in trackers:
            written[_track(record, tracker, folder, chosen=output is not None)] = tracker
    if as_json:
        print_json(list(written))
        return
    for path, note in written.items():
        click.echo(f"{path} ({note})")


def _print_system_prompt(run: str, project: Path, *, as_json: bool) -> None:
    text, best, profile = perform(_system_prompt(run, project))
    if as_json:
        form = {"form": profile.form, "negative": profile.negative}
        print_json({"run": run, "chosen_by": best.chosen_by, **form, "system_prompt": text})
        return
    click.echo(f"{run}: {best.note}", err=True)
    click.echo(text)


async def _system_prompt(run: str, project: Path) -> tuple[str, BestInstruction, PromptProfile]:
    async with reading(project) as store:
        stored = await require_stored_run(store, run)
        best = await best_instruction(store, run)
    style = style_of(stored.config, lambda _: UncalledLlm())
    return style.system_prompt(best.instruction), best, profile_of(stored.config.render)


def _track(record: Tracked, tracker: str, folder: Path, *, chosen: bool) -> str:
    if tracker == "wandb":
        return to_wandb(record, folder)
    elsewhere = "MLFLOW_TRACKING_URI" in os.environ and not chosen
    return to_mlflow(record, None if elsewhere else folder / "mlruns")


async def _export(run: str, project: Path, forms: tuple[str, ...], folder: Path) -> dict[Path, str]:
    written: dict[Path, str] = {}
    async with reading(project, run) as store:
        if "html" in forms:
            page = folder / f"{run}.html"
            await write_page(Project(project), store, run, page)
            written[page] = f"{page.stat().st_size / 1e6:.1f} MB"
        if "jsonl" in forms:
            messages = folder / f"{run}.messages.jsonl"
            written[messages] = f"{await write_messages(store, run, messages):,} messages"
        if "parquet" in forms:
            table = folder / f"{run}.comparisons.parquet"
            written[table] = f"{await write_comparisons(store, run, table):,} comparisons"
    return written
