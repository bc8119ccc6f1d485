"""`bigpe sheet`."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import perform, project_option, run_argument
from bigpe.runtime.evaluation.contact_sheet import make_sheet


@click.command(
    epilog="""
\b
Examples:
  bigpe sheet
  bigpe sheet main -p my-project --prompts 10
"""
)
@run_argument
@project_option
@click.option("--prompts", default=6, show_default=True, type=click.IntRange(1, 40))
def sheet(run: str, project: Path, prompts: int) -> None:
    """Draw a contact sheet on test prompts: naive | first instruction | best, same seeds."""
    perform(make_sheet(run, project, prompts=prompts))
