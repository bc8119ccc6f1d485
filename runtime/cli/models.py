"""`bigpe models`."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from bigpe.runtime.cli.common import json_option, print_json, stdout
from bigpe.services.models import list_models, pull_smollm2


@click.group()
def models() -> None:
    """The models that bigpe knows by name."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show what is there, how large it is and under which licence."""
    rows = list_models()
    if as_json:
        keys = ("name", "kind", "size", "licence", "path")
        print_json([{k: getattr(r, k) and str(getattr(r, k)) for k in keys} for r in rows])
        return
    table = Table("model", "kind", "MB", "licence", "where")
    for row in rows:
        where = Text(str(row.path)) if row.path else Text("not here: bigpe models pull", "yellow")
        table.add_row(row.name, row.kind, f"{row.size / 1e6:.0f}", row.licence, where)
    stdout().print(table)


@models.command(epilog="\b\nExample:\n  bigpe models pull smollm2")
@click.argument("name", type=click.Choice(["smollm2"]))
def pull(name: str) -> None:
    """Fetch a model, check it and place it in the user's cache."""
    path = pull_smollm2(lambda line: click.echo(line, err=True))
    click.echo(f"{name}: {path}")
