"""`bigpe report`."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import project_option
from bigpe.runtime.cli.results.experiment import cells_option
from bigpe.runtime.experiments.cells import DEFAULT_FOLDER
from bigpe.runtime.experiments.report.page import report_html
from bigpe.services.core.atomic_file import partial_file


@click.command(
    epilog="""
\b
Examples:
  bigpe report -p lab                          writes lab/docs/results/report.html
  bigpe report --cells docs/results/cells -o page.html
"""
)
@project_option
@cells_option
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
def report(project: Path, cells: Path | None, output: Path | None) -> None:
    """One self-contained HTML page of all experiments that have run.

    It reads the cells' files alone: no database, no models.
    """
    folder = cells or project / DEFAULT_FOLDER
    page = report_html(folder)
    path = output or folder.parent / "report.html"
    with partial_file(path) as partial:
        partial.write_text(page, encoding="utf-8")
    click.echo(f"wrote {path}")
