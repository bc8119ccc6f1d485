"""`bigpe gc`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bigpe.runtime.cli.common import json_option, print_json, project_option, read_store
from bigpe.runtime.project.garbage_collection import SPARED_S, sweep
from bigpe.runtime.project.paths import Project


@click.command(
    epilog="""
\b
Examples:
  bigpe gc --dry-run
  bigpe gc -p my-project
  bigpe gc --older-than 0        everything that nothing refers to; no run may be under way
"""
)
@project_option
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=SPARED_S / 3600,
    show_default=True,
    metavar="HOURS",
    help="Spare files that were touched since: they may be in use.",
)
@json_option
def gc(project: Path, dry_run: bool, older_than: float, as_json: bool) -> None:
    """Remove pictures that no message and no paid call refers to, and files half written.

    A kill can leave some. Safe while runs are under way, unless --older-than is less than an hour.
    """
    place, spared_s = Project(project), 3600 * older_than
    done = read_store(
        project, lambda store: sweep(place, store, older_than_s=spared_s, dry_run=dry_run)
    )
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    click.echo(
        f"{'would remove' if dry_run else 'removed'} {done.pictures} pictures and "
        f"{done.unfinished} unfinished files ({done.bytes / 1e6:.1f} MB); "
        f"{done.in_use} pictures are in use"
    )
    if done.young:
        click.echo(f"{done.young} more are younger than {older_than:g} h and were spared")
