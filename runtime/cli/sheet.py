"""`bigpe sheet`."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import perform, project_option, run_argument
from bigpe.runtime.contact_sheet import draw_sheet, save_sheet, sheet_rows
from bigpe.runtime.evaluated_run import open_evaluated
from bigpe.runtime.history import require_finished
from bigpe.runtime.project import Project
from bigpe.services.values import derive_seed


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


async def make_sheet(run: str, folder: Path, *, prompts: int) -> Path:
    """Draw and save the run's contact sheet; prints where."""
    async with open_evaluated(run, project=folder) as judged:
        require_finished(judged.campaign, run)
        seed = judged.config.run.seed
        # An order by hash: the first ones of the file are not special.
        test = judged.prompts("test")
        chosen = sorted(test, key=lambda naive: derive_seed(seed, "sheet", naive))[:prompts]
        click.echo(f"painting {len(chosen)} test prompts three ways ...", err=True)
        first = judged.campaign.plan.instructions[0].instruction
        best = judged.campaign.pool.best().instruction
        rows = await sheet_rows(judged.services, chosen, first=first, best=best, seed=seed)
        titles = ("naive", f"first: {first.id[:8]}", f"best: {best.id[:8]}")
        path = Project(folder).sheet(run)
        save_sheet(draw_sheet(rows, judged.services, titles), path)
        gains = [100 * (row.best.score - row.naive.score) for row in rows]
        first_gains = [100 * (row.first.score - row.naive.score) for row in rows]
        click.echo(
            f"contact sheet: {path} (mean gain on {len(rows)} test prompts: "
            f"best {sum(gains) / len(gains):+.2f}, "
            f"first {sum(first_gains) / len(gains):+.2f}; score x 100)"
        )
        return path
