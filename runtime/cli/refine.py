"""`bigpe refine`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bigpe.agents.rewriting import Rewrite
from bigpe.runtime.cli.common import (
    DEFAULT_RUN,
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    require_run,
)
from bigpe.runtime.config import BigpeConfig
from bigpe.runtime.history import replayed_campaign
from bigpe.runtime.project import Project
from bigpe.runtime.refine import refine_fully
from bigpe.services.errors import ConfigError
from bigpe.services.values import Instruction


@click.command(
    epilog="""
\b
Examples:
  bigpe refine "a cat on the beach"
  bigpe refine --instruction "Name the light and the lens." "a cat"
  cat prompts.txt | bigpe refine -
"""
)
@click.argument("prompts", nargs=-1, required=True)
@project_option
@click.option("--run", default=DEFAULT_RUN, show_default=True, help="Take this run's best.")
@click.option("--instruction", help="Use this text instead of a run's best instruction.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@json_option
def refine(
    prompts: tuple[str, ...],
    project: Path,
    run: str,
    instruction: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Rewrite PROMPTS (or, for `-`, the lines of standard input) under an instruction."""
    wanted = list(_read(prompts))
    if not wanted:
        raise ConfigError("there is no prompt to rewrite: standard input was empty")
    done = perform(_refine(wanted, project, run, instruction, seed))
    if as_json:
        print_json([{"naive": r.naive, "text": r.text, "fallback": r.fallback} for r in done])
        return
    for result in done:
        if result.fallback:
            click.echo(f"kept as it was ({result.fallback}): {result.naive}", err=True)
        click.echo(result.text)


def _read(prompts: tuple[str, ...]) -> list[str]:
    lines = sys.stdin.read().splitlines() if prompts == ("-",) else list(prompts)
    return [line.strip() for line in lines if line.strip()]


async def _refine(
    prompts: list[str], folder: Path, run: str, text: str | None, seed: int
) -> list[Rewrite]:
    if text is not None:
        return await refine_fully(prompts, instruction=Instruction(text=text), seed=seed)
    async with reading(folder) as store:
        await require_run(store, run)
        campaign = await replayed_campaign(store, run)
        row = await store.one("get_run", name=run)
    if not campaign.applied:
        raise ConfigError(f"run {run!r} has no finished round yet; go on with it first")
    config = BigpeConfig.model_validate_json(row["config"]) if row else BigpeConfig()
    return await refine_fully(
        prompts,
        instruction=campaign.pool.best().instruction,
        config=config,
        database=Project(folder).database,
        seed=seed,
    )
