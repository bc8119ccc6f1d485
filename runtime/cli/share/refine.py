"""`bigpe refine`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import click

from bigpe.agents.evidence.terms import one_line
from bigpe.runtime.cli.common import (
    DEFAULT_RUN,
    PAUSED,
    fresh_option,
    json_option,
    perform,
    project_option,
    reading,
)
from bigpe.runtime.cli.share.refine_input import (
    STDIN,
    StdinFormat,
    argument_rows,
    file_rows,
    given_rows,
    piped_rows,
)
from bigpe.runtime.cli.share.refine_output import RefineOutput
from bigpe.runtime.cli.signals import call_on_signals
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.sharing.best import BestInstruction, best_instruction
from bigpe.runtime.sharing.hub import load_instruction
from bigpe.runtime.sharing.published_instruction import llm_name, with_rules_of
from bigpe.runtime.sharing.refine import Refiner, RefineStream
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Instruction
from bigpe.services.prompt_data.files import PromptRow
from bigpe.services.render.prompt_profile import profile_of


@click.command(
    epilog="""
\b
Examples:
  bigpe refine "a cat on the beach"
  bigpe refine --instruction "Name the light and the lens." "a cat"
  bigpe refine --from hf://user/name "a cat"
  cat prompts.txt | bigpe refine - | my-painter      each line as soon as it exists
  bigpe refine --file prompts.csv --jsonl > refined.jsonl

\b
Exit codes: 0 at least one prompt was rewritten; the reasons of the others are on
standard error; 1 none was rewritten, or the service stopped; 2 wrong usage,
settings or input; 130 stopped by Ctrl-C, SIGTERM or a long outage.
"""
)
@click.argument("prompts", nargs=-1)
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True),
    help="Take the prompts of a file (txt, csv, jsonl, parquet, xlsx and more), or of a folder of "
    "caption files.",
)
@click.option("--column", help="The column with the prompts; default: found by its name.")
@click.option(
    "--stdin-format",
    type=click.Choice(["txt", "jsonl"]),
    help="What each line of standard input is: a prompt (txt, the default) or JSON.",
)
@project_option
@click.option(
    "--run", default=DEFAULT_RUN, show_default=True, help="Use this run's best instruction."
)
@click.option(
    "--instruction",
    help="Use this text instead of a run's best instruction, with the project's bigpe.toml if "
    "there is one.",
)
@click.option(
    "--from",
    "place",
    metavar="FOLDER|hf://USER/NAME",
    help="Use a published instruction, under its rules and those of the bigpe.toml here.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@fresh_option
@click.option(
    "--jsonl", is_flag=True, help="Print one JSON object per line, as soon as each exists."
)
@json_option
def refine(
    prompts: tuple[str, ...],
    file: Path | None,
    column: str | None,
    project: Path,
    run: str,
    instruction: str | None,
    place: str | None,
    stdin_format: StdinFormat | None,
    seed: int,
    fresh: bool,
    jsonl: bool,
    as_json: bool,
) -> None:
    """Rewrite PROMPTS (or, for `-`, the lines of standard input) under an instruction.

    A line in is a line out, in order: a blank line, a comment (`# `) or a prompt that cannot be
    rewritten comes out as it went in. A prompt of several lines becomes one line. The JSON says of
    each whether it was rewritten, and why not; it has all finished prompts, however the command
    ends.
    """
    if (file is None) == (not prompts):
        raise click.UsageError("give PROMPTS, or `-` for standard input, or --file FILE")
    if instruction is not None and place is not None:
        raise click.UsageError("give --instruction or --from, not both")
    if stdin_format and prompts != ("-",):
        raise click.UsageError("--stdin-format is for standard input: `bigpe refine -`")
    if column and file is None and stdin_format != "jsonl":
        raise click.UsageError("--column is for --file FILE and --stdin-format jsonl")
    total: int | None = None
    if prompts == ("-",):
        rows, source = piped_rows(stdin_format or "txt", column), STDIN
    else:
        listed = file_rows(file, column) if file is not None else argument_rows(prompts)
        rows, source, total = given_rows(listed), str(file) if file else None, len(listed)
    chosen = None
    if instruction is not None:
        chosen = Instruction(text=instruction), _config_of(project)
    elif place is not None:
        chosen = _published(place, project)
    output = RefineOutput("array" if as_json else "jsonl" if jsonl else "lines", source, total)
    raise SystemExit(perform(_refine(rows, project, run, chosen, seed, output, fresh=fresh)))


async def _refine(
    rows: AsyncGenerator[PromptRow],
    folder: Path,
    run: str,
    chosen: tuple[Instruction, BigpeConfig] | None,
    seed: int,
    output: RefineOutput,
    *,
    fresh: bool,
) -> int:
    """Rewrite and print; returns the exit code."""
    if chosen is None:
        best, config = await _best(folder, run)
        instruction, output.chosen_by = best.instruction, best.chosen_by
        click.echo(f"{run}: {best.note}", err=True)
    else:
        instruction, config = chosen
    database = Project(folder).database if Project(folder).database.exists() else None
    task = asyncio.current_task()

    def stop() -> None:
        if task is not None:
            task.cancel()

    call_on_signals(stop)
    watch = OutageWatch(config.run.outages)
    watch.listen(lambda report: click.echo(report.line, err=True) if report.notable else None)
    opened = Refiner.open(
        instruction, config, database=database, seed=seed, watch=watch, fresh=fresh
    )
    try:
        async with opened as refiner:
            stream = RefineStream(refiner)
            with output:
                try:
                    async with aclosing(stream.results(rows)) as results:
                        async for result in results:
                            output.add(result)
                finally:
                    output.add_left(stream.left)
    except asyncio.CancelledError:
        return PAUSED
    if not output.prompts:
        raise ConfigError("there is no prompt to rewrite: the input holds none")
    return 0 if output.refined else 1


def _config_of(folder: Path) -> BigpeConfig:
    """The project's configuration, or the default if there is none."""
    file = Project(folder).config
    return load_config(file) if file.exists() else BigpeConfig()


def _published(place: str, folder: Path) -> tuple[Instruction, BigpeConfig]:
    found, own = load_instruction(place), _config_of(folder)
    if (model := llm_name(own)) != found.models.llm:
        click.echo(f"found with {one_line(found.models.llm)}; {model} rewrites here", err=True)
    if found.safety and not own.constraints.safety:
        note = "found under a safety filter, which is not part of it; set yours in [constraints]"
        click.echo(note, err=True)
    config = with_rules_of(found, own)
    if found.negative and not config.render.prompt.negative:
        click.echo(
            "found with negative prompts; the model that rewrites here writes none", err=True
        )
    form = profile_of(own.render).form
    if found.form and form and found.form != form:
        click.echo(f"found for a painter that reads {found.form}; that here reads {form}", err=True)
    return found.instruction, config


async def _best(folder: Path, run: str) -> tuple[BestInstruction, BigpeConfig]:
    async with reading(folder) as store:
        stored = await require_stored_run(store, run)
        return await best_instruction(store, run), stored.config
