"""`bigpe status` and `bigpe stop`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from bigpe.agents.campaign.budget import forecast
from bigpe.agents.diagnostics.faults import RunFinding
from bigpe.agents.messages.core import PoolChanged
from bigpe.agents.messages.search import operators_text
from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    run_argument,
    stdout,
)
from bigpe.runtime.formatting import duration
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.lock import lock_holder
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.prices import price_table
from bigpe.runtime.run.monitoring.forecast_text import (
    amounts,
    forecast_text,
    usage_text,
    within_minutes,
)
from bigpe.runtime.sharing.best import BestInstruction, best_instruction
from bigpe.runtime.transcript.health import findings_of
from bigpe.runtime.transcript.reader import last_message
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store


@click.command(
    epilog="\b\nExamples:\n  bigpe status\n  bigpe status -p my-project --json\n"
    "  bigpe status --best       the best instruction of each run, whole"
)
@project_option
@click.option("--best", is_flag=True, help="Print the best instruction of each run, whole.")
@json_option
def status(project: Path, best: bool, as_json: bool) -> None:
    """Show a project's runs: state, round, writing process, usage, forecast and diagnostics.

    The forecast uses the pace of the rounds so far and tends to be too high.
    """
    if best:
        found = perform(_best(project))
        if as_json:
            print_json({name: _best_json(row) for name, row in found.items()})
        else:
            lines = [
                f"{name} (chosen by {row.chosen_by} gain):\n{row.instruction.with_examples}"
                for name, row in found.items()
            ]
            click.echo("\n\n".join(lines))
        return
    rows = perform(_runs(project))
    if as_json:
        print_json(rows)
        return
    table = Table("run", "state", "round", "messages", "process", "started", "worked", "reason")
    for row in rows:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        name = row["name"] + (f" (fork of {row['parent']})" if row["parent"] else "")
        cells = (name, row["state"], row["round"], row["messages"], row["process"] or "-")
        worked = duration(row["seconds"])
        table.add_row(*(Text(str(c)) for c in cells), started, worked, Text(row["reason"]))
    console = stdout()
    console.print(table)
    for row in rows:
        if row["used"]:
            console.print(Text(f"{row['name']}: {row['summary']}"))
        for line in row["shares"]:
            console.print(Text(f"{row['name']}: {line}"))
        for found in row["findings"]:
            line = RunFinding.model_validate(found).line
            console.print(Text(f"{row['name']}: {line}", style="yellow"), soft_wrap=True)


@click.command(epilog="\b\nExamples:\n  bigpe stop\n  bigpe stop wide -p my-project")
@run_argument
@project_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it has ended.")
def stop(run: str, project: Path, wait: bool) -> None:
    """Pause a run that another process writes, like Ctrl-C there; `resume` continues it."""
    lock = Project(project).lock(run)
    holder = lock_holder(lock)
    if holder is None:
        raise ConfigError(f"no process is writing run {run!r} in {project}")
    os.kill(holder, signal.SIGTERM)
    click.echo(f"asked process {holder} to finish the steps in flight and stop")
    while wait and lock_holder(lock) == holder:
        time.sleep(0.2)
    if wait:
        click.echo(f"stopped; go on with: bigpe resume {run} -p {project}")


async def _runs(folder: Path) -> list[dict[str, Any]]:
    project = Project(folder)
    async with reading(folder) as store:
        rows: list[dict[str, Any]] = [dict(row) for row in await store.rows("list_runs")]
        for row in rows:
            config = BigpeConfig.model_validate_json(row.pop("config"))
            row |= await _outlay(store, row, config)
            row["findings"] = [
                found.model_dump(mode="json") for found in await findings_of(store, row["name"])
            ]
    for row in rows:
        row["process"] = lock_holder(project.lock(row["name"]))
        if row["state"] in ("running", "open") and row["process"] is None:
            row["state"] = "interrupted"
        if row["state"] == "complete":
            row["summary"] = usage_text(row["used"]) if row["used"] else ""
            row["forecast"] = None
    return rows


def _best_json(best: BestInstruction) -> dict[str, Any]:
    fields = {"id": best.instruction.id, "chosen_by": best.chosen_by}
    return fields | best.instruction.model_dump(mode="json")


async def _best(folder: Path) -> dict[str, BestInstruction]:
    """The best instruction of each run that has a result, by the name of the run."""
    async with reading(folder) as store:
        names = [row["name"] for row in await store.rows("list_runs")]
        found: dict[str, BestInstruction] = {}
        for name in names:
            if await last_message(store, name, PoolChanged) is None:
                continue
            try:
                found[name] = await best_instruction(store, name)
            except ConfigError as error:  # a run without a usable result; the others have theirs
                click.echo(str(error), err=True)
        return found


async def _outlay(store: Store, row: dict[str, Any], config: BigpeConfig) -> dict[str, Any]:
    """Usage of the run up to its last finished round, and the forecast."""
    nothing: dict[str, Any] = {
        "used": None,
        "forecast": None,
        "summary": "",
        "answers": None,
        "shares": [],
        "operators": {},
    }
    message = await last_message(store, row["name"], PoolChanged)
    if message is None:
        return nothing
    applied, budget = message.round, config.budget
    prices = price_table(config).plan_prices
    used = amounts(message.used, prices)
    pilot = 2 * config.run.pilot_prompts
    expected = forecast(message.used, applied, config.run.rounds, budget.limits, prices, pilot)
    assert expected is not None
    each = row["seconds"] / applied
    expected = within_minutes(expected, applied, budget.minutes, row["seconds"], each)
    text = f"{usage_text(used)} so far; {forecast_text(expected, applied, each)}"
    return {
        "used": used,
        "forecast": expected._asdict(),
        "summary": text,
        "answers": message.answers.model_dump(mode="json"),
        "shares": [*message.answers.lines, *filter(None, [operators_text(message.operators)])],
        "operators": {name: tally._asdict() for name, tally in message.operators.items()},
    }
