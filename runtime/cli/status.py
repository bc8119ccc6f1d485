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

from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    run_argument,
    stdout,
)
from bigpe.runtime.locks import lock_holder
from bigpe.runtime.project import Project
from bigpe.services.errors import ConfigError


@click.command(epilog="\b\nExamples:\n  bigpe status\n  bigpe status -p my-project --json")
@project_option
@json_option
def status(project: Path, as_json: bool) -> None:
    """Show a project's runs: state, round, messages and which process writes them."""
    rows = perform(_runs(project))
    if as_json:
        print_json(rows)
        return
    table = Table("run", "state", "round", "messages", "process", "started", "reason")
    for row in rows:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        cells = (row["name"], row["state"], row["round"], row["messages"])
        process = str(row["process"] or "-")
        table.add_row(*(Text(str(c)) for c in cells), process, started, Text(row["reason"]))
    stdout().print(table)


@click.command(epilog="\b\nExamples:\n  bigpe stop\n  bigpe stop wide -p my-project")
@run_argument
@project_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it has ended.")
def stop(run: str, project: Path, wait: bool) -> None:
    """Pause a run that another process writes, as Ctrl-C there would; `resume` goes on."""
    lock = Project(project).lock(run)
    holder = lock_holder(lock)
    if holder is None:
        raise ConfigError(f"no process is writing run {run!r} in {project}")
    os.kill(holder, signal.SIGTERM)
    click.echo(f"asked process {holder} to finish what is in flight and stop")
    while wait and lock_holder(lock) == holder:
        time.sleep(0.2)
    if wait:
        click.echo(f"stopped; go on with: bigpe resume {run} -p {project}")


async def _runs(folder: Path) -> list[dict[str, Any]]:
    project = Project(folder)
    async with reading(folder) as store:
        rows = [dict(row) for row in await store.rows("list_runs")]
    for row in rows:
        row["process"] = lock_holder(project.lock(row["name"]))
        if row["state"] in ("running", "open") and row["process"] is None:
            row["state"] = "interrupted"
    return rows
