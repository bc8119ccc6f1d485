"""`bigpe demo`."""

from __future__ import annotations

from pathlib import Path

import click

from bigpe.runtime.cli.common import DEFAULT_RUN, perform
from bigpe.runtime.cli.project.init import offer_models, write_config
from bigpe.runtime.cli.run.run import go
from bigpe.runtime.evaluation.contact_sheet import make_sheet
from bigpe.runtime.project.config import load_config
from bigpe.runtime.project.paths import Project


@click.command(epilog="\b\nExample:\n  bigpe demo my-demo")
@click.argument("folder", default="demo", type=click.Path(path_type=Path, file_okay=False))
@click.option("-v", "--verbose", is_flag=True, help="Also show the log.")
def demo(folder: Path, verbose: bool) -> None:
    """A whole optimisation on the embedded models, with a contact sheet at its end.

    A second call goes on with a run that was interrupted, or shows the result of a complete one.
    """
    project = Project(folder)
    if not project.config.exists():
        write_config(folder, "embedded")
    offer_models(pull=True)
    config = load_config(project.config)
    code = perform(go(DEFAULT_RUN, folder, config, verbose=verbose, as_json=False))
    if code == 0:
        perform(make_sheet(DEFAULT_RUN, folder, prompts=6))
        click.echo(f"\nread the transcript: bigpe inspect -p {folder}")
        click.echo(f'use what was found:  bigpe refine -p {folder} "a castle in the snow"')
    raise SystemExit(code)
