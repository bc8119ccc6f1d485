"""`bigpe init`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import click

from bigpe.prompts.library import PromptForm
from bigpe.prompts.templates import seed_file
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError, StoreError
from bigpe.services.models.downloads import pull_smollm2, smollm2_path

TEMPLATES = ("embedded", "sdxl-turbo")
SEEDS = "seeds.toml"
"""The file of seed instructions that a template names."""


@click.command(
    epilog="""
\b
Examples:
  bigpe init my-project
  bigpe init my-project --template sdxl-turbo
"""
)
@click.argument("folder", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="embedded",
    show_default=True,
    help="Which models the file names: the embedded ones, or SDXL-Turbo and an OpenAI-style LLM.",
)
@click.option("--pull/--no-pull", default=None, help="Fetch the embedded LLM without asking.")
def init(folder: Path, template: str, pull: bool | None) -> None:
    """Write a commented bigpe.toml into FOLDER; an existing file is not changed."""
    path = write_config(folder, template)
    click.echo(f"wrote {path}")
    if template != "embedded":
        click.echo(write_seeds(folder, "tags"))
    if template == "embedded":
        offer_models(pull)
    click.echo(f"next: bigpe config check -p {folder}, then bigpe run -p {folder}")


def write_config(folder: Path, template: str) -> Path:
    """Copy the packaged configuration. ConfigError if there is one already."""
    path = Project(folder).config
    text = (
        files("bigpe.prompts") / "project_templates" / f"{template.replace('-', '_')}.toml"
    ).read_text("utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; edit it, or choose another folder") from error
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def write_seeds(folder: Path, form: PromptForm) -> str:
    """Write the seed instructions for painters of `form`; returns what was done, for people."""
    path = folder / SEEDS
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(seed_file(form))
    except FileExistsError:
        return f"{path} is there already and stays as it is"
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return f"wrote {path}"


def offer_models(pull: bool | None) -> None:
    """Fetch the embedded LLM if it is missing and the user wants it."""
    try:
        smollm2_path()
        return
    except ConfigError:
        pass
    if pull is None and sys.stdin.isatty():
        pull = click.confirm("The embedded LLM (93 MB) is not here. Fetch it now?", default=True)
    if pull:
        click.echo(f"placed {pull_smollm2(lambda line: click.echo(line, err=True))}")
    else:
        click.echo("the embedded LLM is not here yet: bigpe models pull smollm2")
