"""`bigpe models`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from bigpe.runtime.cli.common import json_option, print_json, stdout
from bigpe.services.errors import ConfigError
from bigpe.services.models import list_models, pull_smollm2
from bigpe.services.official_scorers import OFFICIAL, list_official


@click.group()
def models() -> None:
    """The models that bigpe knows by name."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show what is there, how large it is and under which licence."""
    rows = [*list_models(), *list_official()]
    if as_json:
        keys = ("name", "kind", "size", "licence", "path")
        print_json([{k: getattr(r, k) and str(getattr(r, k)) for k in keys} for r in rows])
        return
    table = Table("model", "kind", "MB", "licence", "where")
    for row in rows:
        absent = Text(f"not here: bigpe models pull {row.name}", "yellow")
        where = Text(str(row.path)) if row.path else absent
        table.add_row(row.name, row.kind, f"{row.size / 1e6:.0f}", row.licence, where)
    stdout().print(table)


@models.command(
    epilog="\b\nExamples:\n  bigpe models pull smollm2\n  bigpe models pull hpsv2.1\n"
    "  bigpe models pull hpsv2.1 --file ~/Downloads/HPS_v2.1_compressed.pt\n"
    "  bigpe models pull hpsv2.1 --keep"
)
@click.argument("name", type=click.Choice(["smollm2", *OFFICIAL]))
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Take a scorer's checkpoint from here instead of the internet.",
)
@click.option(
    "--keep",
    is_flag=True,
    help='Keep the published file, too: [score] backend = "hpsv2-package" reads it.',
)
def pull(name: str, file: Path | None, keep: bool) -> None:
    """Fetch a model, check it and place it in the user's cache.

    A scorer's checkpoint is verified by sha256, converted once to safetensors, and not needed
    afterwards, unless the official hpsv2 package is to read it.
    """

    def say(line: str) -> None:
        click.echo(line, err=True)

    if name in OFFICIAL:
        from bigpe.services.clip_checkpoints import pull_official  # torch: slow to import

        path = pull_official(name, say, file=file, keep=keep)
    elif file is not None or keep:
        raise ConfigError("--file and --keep go with a scorer, not with the language model")
    else:
        path = pull_smollm2(say)
    click.echo(f"{name}: {path}")
