"""`bigpe refine`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import click

from bigpe.agents.evidence.terms import one_line
from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.runtime.cli.common import (
    DEFAULT_RUN,
    json_option,
    perform,
    print_json,
    project_option,
    reading,
)
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.sharing.hub import load_instruction
from bigpe.runtime.sharing.published_instruction import llm_name
from bigpe.runtime.sharing.refine import refine_each
from bigpe.runtime.transcript.replay import replayed_campaign, require_finished
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction
from bigpe.services.prompt_data.files import read_prompts


@click.command(
    epilog="""
\b
Examples:
  bigpe refine "a cat on the beach"
  bigpe refine --instruction "Name the light and the lens." "a cat"
  bigpe refine --from hf://user/name "a cat"
  cat prompts.txt | bigpe refine - | my-painter      each line as soon as it exists
  bigpe refine --file prompts.csv --jsonl > refined.jsonl
"""
)
@click.argument("prompts", nargs=-1)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Take the prompts of a txt, csv, jsonl or parquet file.",
)
@click.option("--column", help="The column with the prompts; default: found by its name.")
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
    seed: int,
    jsonl: bool,
    as_json: bool,
) -> None:
    """Rewrite PROMPTS (or, for `-`, the lines of standard input) under an instruction."""
    if (file is None) == (not prompts):
        raise click.UsageError("give PROMPTS, or `-` for standard input, or --file FILE")
    if instruction is not None and place is not None:
        raise click.UsageError("give --instruction or --from, not both")
    if file is not None:
        found = read_prompts(file, column=column)
        for row in found.rejected:
            click.echo(f"{file}, line {row.line}: left out: {row.reason}", err=True)
        source = _given([row.text for row in found.accepted])
    elif prompts == ("-",):
        source = _piped()
    else:
        source = _given(prompts)
    chosen = None
    if instruction is not None:
        chosen = Instruction(text=instruction), _config_of(project)
    elif place is not None:
        chosen = _published(place, project)
    perform(_refine(source, project, run, chosen, seed, "array" if as_json else jsonl))


async def _given(prompts: Iterable[str]) -> AsyncGenerator[str]:
    for prompt in prompts:
        if prompt.strip():
            yield prompt.strip()


async def _piped() -> AsyncGenerator[str]:
    """The lines of standard input, without waiting for its end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)

    # A daemon, because a thread that waits for a line cannot be cancelled and would block Ctrl-C.
    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        if line.strip():
            yield line.strip()


async def _refine(
    prompts: AsyncGenerator[str],
    folder: Path,
    run: str,
    chosen: tuple[Instruction, BigpeConfig] | None,
    seed: int,
    form: str | bool,
) -> None:
    instruction, config = chosen or await _best(folder, run)
    database = Project(folder).database if Project(folder).database.exists() else None
    stream = refine_each(
        prompts, instruction=instruction, config=config, database=database, seed=seed
    )
    done: list[Rewrite] = []
    count = 0
    async for result in stream:
        count += 1
        if form == "array":
            done.append(result)
        else:
            _show(result, as_json=bool(form))
    if not count:
        raise ConfigError("there is no prompt to rewrite: the input was empty")
    if form == "array":
        print_json([_row(result) for result in done])


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
    rules = own.constraints.and_also(found.constraints)
    return found.instruction, own.model_copy(update={"constraints": rules})


async def _best(folder: Path, run: str) -> tuple[Instruction, BigpeConfig]:
    async with reading(folder) as store:
        stored = await require_stored_run(store, run)
        campaign = await replayed_campaign(store, run)
    require_finished(campaign, run)
    return campaign.pool.best().instruction, stored.config


def _show(result: Rewrite, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_row(result), ensure_ascii=False))
        return
    if result.fallback:
        click.echo(f"kept unchanged ({result.fallback}): {result.naive}", err=True)
    click.echo(result.text)


def _row(result: Rewrite) -> dict[str, str | None]:
    row = {"naive": result.naive, "text": result.text, "fallback": result.fallback}
    return row | ({"negative": result.negative} if result.negative else {})
