"""`bigpe inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from bigpe.agents.messages.core import LlmTurn
from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    run_argument,
    stdout,
)
from bigpe.runtime.formatting import visible
from bigpe.runtime.transcript.describing.messages import describe_row
from bigpe.runtime.transcript.describing.parts import line, summary
from bigpe.runtime.transcript.describing.terminal import (
    block,
    line_text,
    print_details,
    print_indented,
)
from bigpe.runtime.transcript.llm_calls import PaidCall, paid_calls, replay
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.runtime.transcript.result import result_json, result_table
from bigpe.runtime.transcript.search import (
    TranscriptRow,
    Wanted,
    causes,
    consequences,
    every,
    message_like,
)
from bigpe.services.core.values import Json
from bigpe.services.store.database import Store

MOST_CONSEQUENCES = 100
"""Most consequences of a message."""


@click.command(
    epilog="""
\b
Examples:
  bigpe inspect                       the transcript, short
  bigpe inspect --round 3 --full      every message of a round
  bigpe inspect --type StepFailed     what failed, and why
  bigpe inspect --text "golden hour"  messages with it, also requests and answers
  bigpe inspect --message 3f2a90c1    one message: causes, consequences, paid calls
  bigpe inspect --pool                instructions, gains and lineage
  bigpe inspect --chat --round 1      LLM exchanges, replayed in AgentChat's Console
  bigpe inspect --json > run.jsonl    every message as a JSON line
"""
)
@run_argument
@project_option
@click.option("--round", "round_", type=click.IntRange(min=0), help="Only this round.")
@click.option("--type", "type_", metavar="KIND", help="Only messages of this kind.")
@click.option("--actor", help="Only messages of this actor.")
@click.option("--text", default="", help="Only messages with this text, case-insensitive.")
@click.option("--message", "mid", metavar="ID", help="One message, by the start of its id.")
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
    text: str,
    mid: str | None,
    full: bool,
    pool: bool,
    chat: bool,
    as_json: bool,
) -> None:
    """Read a run's transcript, from naive prompts to scores; works while it runs."""

    async def work() -> None:
        async with reading(project, run) as store:
            if pool:
                await _show_pool(store, run, as_json)
                return
            if chat:
                await replay(store, run, round=round_)
                return
            if mid is not None:
                await _show_message(stdout_console, store, run, mid, as_json)
                return
            if not as_json:
                await _print_parent(store, run, stdout_console)
            quiet = not (full or text or as_json)
            wanted = Wanted(type_, round_, actor, text, quiet)
            async for row in every(store, run, wanted):
                if as_json:
                    click.echo(row.body)
                else:
                    _show(stdout_console, row, brief=quiet and not type_)

    stdout_console = stdout()
    perform(work())


async def _print_parent(store: Store, run: str, console: Console) -> None:
    row = await store.row("get_run", name=run)
    if row is not None and row["parent"]:
        console.print(Text(f"{run} is a fork of {row['parent']}", style="cyan"))


def _show(
    console: Console, row: TranscriptRow, *, brief: bool = False, whole: bool = False
) -> None:
    """Print a message; `brief`: without the details of a long one; `whole`: no text is cut."""
    description = describe_row(row)
    brief = brief and description.long
    label = Text(f"{row.round:>3} {row.sender:<12} ", style="cyan")
    label += Text(f"{row.mid[:8]} ", style="dim")
    headline = line_text(line(*description.headline.spans, *(description.gist if brief else ())))
    headline.stylize("red" if row.kind == "StepFailed" else "bold")
    console.print(label + headline, soft_wrap=True)
    if not brief:
        print_details(console, description, whole=whole)


async def _show_message(
    console: Console, store: Store, run: str, start: str, as_json: bool
) -> None:
    row = await message_like(store, run, start)
    led = await causes(store, run, row)
    followed = await consequences(store, run, row.mid, limit=MOST_CONSEQUENCES)
    turn = row.message
    calls = await paid_calls(store, turn) if isinstance(turn, LlmTurn) else []
    if as_json:
        parts = {
            "message": json.loads(row.body),
            "causes": [cause.mid for cause in led],
            "consequences": [consequence.mid for consequence in followed],
            "calls": [
                {"request": json.loads(c.request), "answer": json.loads(c.answer)} for c in calls
            ],
        }
        print_json(parts)
        return
    _show(console, row, whole=True)
    for title, rows in (("causes", led), ("consequences", followed)):
        console.print(Text(f"\n{title}", style="cyan"))
        for other in rows:
            line = f"  {other.mid[:8]} {other.sender}: {summary(describe_row(other))}"
            console.print(Text(line), soft_wrap=True)
        if not rows:
            console.print("  nothing")
    for call in calls:
        _show_call(console, call)


def _show_call(console: Console, call: PaidCall) -> None:
    """A paid call as a person reads it: its settings, then each text with its lines."""
    request: Json = json.loads(call.request)
    answer: Json = json.loads(call.answer)
    turns = [(turn["role"], turn["text"]) for turn in request.pop("turns", [])]
    texts = [
        *turns,
        ("thoughts", answer.pop("reasoning", "")),
        ("answer", answer.pop("text", "")),
    ]
    console.print(Text(f"\npaid call {call.key[:8]}, {call.ms:.0f} ms", style="cyan"))
    for name, values in (("request", request), ("answer", answer)):
        given = {key: value for key, value in values.items() if value not in (None, "", [])}
        print_indented(console, [block(f"{name}: {json.dumps(given, ensure_ascii=False)}")])
    for title, text in texts:
        if text:
            heading = Text(visible(title), style="cyan")
            print_indented(console, [heading, block(str(text)), Text()])


async def _show_pool(store: Store, run: str, as_json: bool) -> None:
    campaign = await replayed_campaign(store, run)
    if not campaign.started:
        click.echo("the run has not begun")
        return
    if as_json:
        print_json(result_json(campaign))
        return
    console, stopped = stdout(), campaign.stopped
    console.print(result_table(campaign))
    console.print(Text(f"stopped: {stopped.reason}" if stopped else "the run is not complete"))
