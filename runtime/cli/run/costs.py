"""`bigpe costs`."""

from __future__ import annotations

from pathlib import Path

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
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.transcript.costs import By, Ledger, Spent, read_ledger


@click.command(
    epilog="""
\b
Examples:
  bigpe costs
  bigpe costs wide --by round
  bigpe costs --by instruction --json
"""
)
@run_argument
@project_option
@click.option(
    "--by",
    type=click.Choice(["role", "instruction", "round"]),
    default="role",
    show_default=True,
    help="What a line sums up.",
)
@json_option
def costs(run: str, project: Path, by: By, as_json: bool) -> None:
    """Show the requested and the paid calls of a run; works while it runs.

    Budgets count requested calls: distinct pictures, scores, calls and tokens, also those that the
    project had paid for before. USD are by the run's [prices].
    """

    async def work() -> Ledger:
        async with reading(project) as store:
            stored = await require_stored_run(store, run)
            return await read_ledger(store, run, stored.config.prices, by)

    ledger = perform(work())
    if as_json:
        print_json({"run": run, **ledger.as_json()})
        return
    console = stdout()
    console.print(_table(ledger, paid=False))
    console.print(_table(ledger, paid=True))
    if count := ledger.total.paid.unsettled:
        note = f"{count} calls are in flight, or were when a process died: they may be billed"
        console.print(Text(note, style="yellow"))


def _table(ledger: Ledger, *, paid: bool) -> Table:
    title = "Really paid" if paid else "Asked for (what budgets count)"
    table = Table(title=title, title_justify="left")
    table.add_column(ledger.by)
    for heading in ("LLM calls", "tokens", "renders", "scores"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("failed", "seconds") if paid else ():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("USD", justify="right", no_wrap=True)
    for key, line in ledger.lines.items():
        text = ledger.texts.get(key)
        label = f"{key[:8]} {text}" if text else key or "-"
        table.add_row(Text(label), *_cells(line.paid if paid else line.requested, paid))
    total = ledger.total
    table.add_section()
    table.add_row("all", *_cells(total.paid if paid else total.requested, paid), style="bold")
    return table


def _cells(spent: Spent, paid: bool) -> list[str]:
    cells = [f"{n:,}" for n in (spent.llm_calls, spent.tokens, spent.renders, spent.scores)]
    cells += [f"{spent.failed:,}", f"{spent.seconds:,.1f}"] if paid else []
    return [*cells, f"{spent.usd:,.4f}"]
