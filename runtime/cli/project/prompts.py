"""`bigpe prompts`."""

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
    read_store,
    stdout,
)
from bigpe.runtime.formatting import quote
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError
from bigpe.services.prompt_data.files import PromptFile, read_prompts
from bigpe.services.prompt_data.library import PromptLibrary
from bigpe.services.store.database import Store

PREVIEW = 8


@click.group()
def prompts() -> None:
    """The project's database of professional prompts."""


@prompts.command(
    "import",
    epilog="""
\b
Examples:
  bigpe prompts import prompts.txt --license CC-BY-4.0
  bigpe prompts import export.parquet --column prompt --dry-run
""",
)
@click.argument("file", type=click.Path(path_type=Path))
@project_option
@click.option("--column", help="The column with the prompts; default: found by its name.")
@click.option("--license", "license_", default="unknown", show_default=True)
@click.option("--dry-run", is_flag=True, help="Only print what would be added.")
@json_option
def import_(
    file: Path, project: Path, column: str | None, license_: str, dry_run: bool, as_json: bool
) -> None:
    """Add prompts from FILE (txt, csv, json, parquet, xlsx, a folder of captions and more).

    Shows which rows are taken and which are not, and why.
    """
    if not (dry_run or Project(project).exists()):
        raise ConfigError(
            f"{project.resolve()} is no project: it has no bigpe.toml; name the project with -p, "
            "or make one with `bigpe init`"
        )
    taken = read_prompts(file, column=column)
    if as_json:
        rejected = [{"line": r.line, "reason": r.reason} for r in taken.rejected]
        print_json({"accepted": len(taken.accepted), "rejected": rejected, "dry_run": dry_run})
    else:
        _preview(taken)
    if dry_run:
        return
    perform(_add(project, file, [prompt.text for prompt in taken.accepted], license_))
    if not as_json:
        click.echo(f"added to {Project(project).database}; duplicates of its prompts stay single")


def _preview(taken: PromptFile) -> None:
    console = stdout()
    console.print(Text(f"{len(taken.accepted)} taken, {len(taken.rejected)} rejected"))
    for prompt in taken.accepted[:PREVIEW]:
        console.print(Text(f"  line {prompt.line}: {quote(prompt.text)}", style="green"))
    for row in taken.rejected[:PREVIEW]:
        line = f"  line {row.line}: {quote(row.text, 60)}: {row.reason}"
        console.print(Text(line, style="yellow"))
    if len(taken.rejected) > PREVIEW:
        console.print(Text(f"  and {len(taken.rejected) - PREVIEW} more; --json lists all"))


async def _add(project: Path, file: Path, texts: list[str], license_: str) -> None:
    async with Store(Project(project).database) as store:
        await PromptLibrary(store).add(texts, source=file.name, license=license_)


@prompts.command(epilog='\b\nExample:\n  bigpe prompts search "castle at night"')
@click.argument("text")
@project_option
@click.option("-n", "limit", default=10, show_default=True, type=click.IntRange(1, 1000))
@json_option
def search(text: str, project: Path, limit: int, as_json: bool) -> None:
    """Search the professional prompts, best match first."""
    found = read_store(project, lambda store: PromptLibrary(store).search(text, limit))
    if as_json:
        print_json(found)
        return
    for prompt in found:
        click.echo(prompt)
    if not found:
        click.echo("nothing found; `bigpe prompts list` shows all sources", err=True)


@prompts.command("list")
@project_option
@json_option
def list_(project: Path, as_json: bool) -> None:
    """Count the professional prompts by source and licence."""
    counts = read_store(project, lambda store: PromptLibrary(store).counts())
    if as_json:
        print_json([{"source": s, "license": c, "prompts": n} for s, c, n in counts])
        return
    table = Table("source", "licence", "prompts")
    for source, name, count in counts:
        table.add_row(Text(source), Text(name), str(count))
    stdout().print(table)
