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
from bigpe.runtime.project.prices import PriceTable, price_table
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
    project had paid for before. USD are by your [prices], else by the public list of genai-prices.
    Thoughts are part of the answers' tokens, and cached tokens part of the requests'.
    """

    async def work() -> Ledger:
        async with reading(project) as store:
            stored = await require_stored_run(store, run)
            return await read_ledger(store, run, price_table(stored.config), by)

    ledger = perform(work())
    if as_json:
        print_json({"run": run, **ledger.as_json()})
        return
    console = stdout()
    console.print(_table(ledger, paid=False))
    console.print(_table(ledger, paid=True))
    console.print(price_rows(ledger.prices))
    if missing := ledger.prices.missing:
        note = "; ".join(f"{row.model}: {row.remedy}" for row in missing)
        console.print(Text(f"the costs are incomplete. {note}", style="yellow"))
    if count := ledger.total.paid.unsettled:
        note = f"{count} calls are in flight, or were when a process died: they may be billed"
        console.print(Text(note, style="yellow"))


def _table(ledger: Ledger, *, paid: bool) -> Table:
    title = "Really paid" if paid else "Asked for (what budgets count)"
    table = Table(title=title, title_justify="left")
    table.add_column(ledger.by)
    for heading in ("LLM calls", "tokens", "thoughts", "cached", "renders", "scores"):
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
    llm = (spent.llm_calls, spent.tokens, spent.reasoning_tokens, spent.cached_tokens)
    cells = [f"{n:,}" for n in (*llm, spent.renders, spent.scores)]
    cells += [f"{spent.failed:,}", f"{spent.seconds:,.1f}"] if paid else []
    return [*cells, _usd(spent)]


def _usd(spent: Spent) -> str:
    """The cost; it is a lower bound if the price of some calls is not known."""
    if not spent.unpriced:
        return f"{spent.usd:,.4f}"
    return f"> {spent.usd:,.4f}" if spent.usd else "unknown"


def price_rows(prices: PriceTable) -> Table:
    """The table of prices with their sources."""
    table = Table(title="Prices", title_justify="left")
    for heading in ("for", "model", "price", "from"):
        table.add_column(heading)
    for row in prices.rows:
        table.add_row(*(Text(cell) for cell in (row.name, row.model, row.text, row.source or "-")))
    return table
