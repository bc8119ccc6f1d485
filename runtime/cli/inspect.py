"""`bigpe inspect`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from bigpe.runtime.chat_replay import replay
from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    require_run,
    run_argument,
    stdout,
)
from bigpe.runtime.history import replayed_campaign
from bigpe.runtime.result import result_json, result_table
from bigpe.runtime.transcript import Entry, describe, entries
from bigpe.services.store import Store

QUIET_KINDS = ("RenderRequested", "ScoreRequested", "ImageRendered", "LlmTurn")
"""Left out of the short transcript: each is told by its consequence."""


@click.command(
    epilog="""
\b
Examples:
  bigpe inspect                       the transcript, short
  bigpe inspect --round 3 --full      every message of a round
  bigpe inspect --type StepFailed     what failed, and why
  bigpe inspect --pool                instructions, gains and lineage
  bigpe inspect --chat --round 1      LLM exchanges, replayed in AgentChat's Console
  bigpe inspect --json > run.jsonl    every message as a JSON line
"""
)
@run_argument
@project_option
@click.option("--round", "round_", type=click.IntRange(min=0), help="Only this round.")
@click.option("--type", "type_", metavar="KIND", help="Only messages of this kind.")
@click.option("--actor", help="Only what this actor said.")
@click.option("--full", is_flag=True, help="Also requests, pictures and LLM exchanges.")
@click.option("--pool", is_flag=True, help="The instructions instead of the transcript.")
@click.option("--chat", is_flag=True, help="LLM exchanges in AgentChat's Console.")
@json_option
def inspect(
    run: str,
    project: Path,
    round_: int | None,
    type_: str | None,
    actor: str | None,
    full: bool,
    pool: bool,
    chat: bool,
    as_json: bool,
) -> None:
    """Read a run's transcript, from naive prompts to scores; works while it runs."""

    async def work() -> None:
        async with reading(project) as store:
            await require_run(store, run)
            if pool:
                await _show_pool(store, run, as_json)
                return
            if chat:
                await replay(store, run, round=round_)
                return
            async for entry in entries(store, run, type=type_, round=round_, sender=actor):
                if as_json:
                    click.echo(entry.message.model_dump_json())
                elif full or type_ or entry.message.kind not in QUIET_KINDS:
                    _show(stdout_console, entry)

    stdout_console = stdout()
    perform(work())


def _show(console: Console, entry: Entry) -> None:
    headline, *details = describe(entry.message)
    label = f"{entry.message.round:>3} {entry.sender:<12}"
    style = "red" if entry.message.kind == "StepFailed" else "bold"
    console.print(Text(label, style="cyan") + Text(f" {headline}", style=style), soft_wrap=True)
    for line in details:
        console.print(Text(f"{'':17}{line}"), soft_wrap=True)


async def _show_pool(store: Store, run: str, as_json: bool) -> None:
    campaign = await replayed_campaign(store, run)
    if not campaign.started:
        click.echo("the run has not begun")
        return
    reason = campaign.stopped.reason if campaign.stopped else "not complete"
    if as_json:
        print_json(result_json(campaign.pool, campaign.plan, reason, campaign.used.renders))
        return
    console = stdout()
    console.print(result_table(campaign.pool, best=campaign.pool.best().instruction.id))
    console.print(Text(f"stopped: {reason}" if campaign.stopped else "the run is not complete"))
