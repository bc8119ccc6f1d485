"""`bigpe view`."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

import click

from bigpe.runtime.cli.common import (
    json_option,
    perform,
    project_option,
    reading,
    run_argument,
)
from bigpe.runtime.cli.signals import call_on_signals
from bigpe.runtime.project.paths import Project
from bigpe.runtime.viewer.app import RunPages
from bigpe.runtime.viewer.server import LocalServer

port_option = click.option(
    "--port",
    default=0,
    show_default="any free one",
    type=click.IntRange(0, 65535),
    help="The port on this machine.",
)


@click.command(
    epilog="""
\b
Examples:
  bigpe view                        pages about the run "main", while it runs or after
  bigpe view wide -p my-project
  bigpe view --port 8765            a fixed port, to forward: ssh -L 8765:127.0.0.1:8765 ...
"""
)
@run_argument
@project_option
@port_option
@json_option
def view(run: str, project: Path, port: int, as_json: bool) -> None:
    """Show a run in the browser: result, lineage, pictures, transcript. Reads only; Ctrl-C ends it.

    The address holds a secret that gives access to the pages, from this machine only.
    """
    with contextlib.suppress(KeyboardInterrupt):
        perform(_serve(run, project, port, as_json))


async def _serve(run: str, folder: Path, port: int, as_json: bool) -> None:
    async with reading(folder, run) as store:
        pages = RunPages(Project(folder), store, run)
        server = LocalServer(pages.app(), port=port)
        pages.ending = lambda: server.ending
        call_on_signals(server.stop)
        await server.serve(partial(announce, server.url, as_json))


def announce(url: str, as_json: bool) -> None:
    """Print the address."""
    if as_json:
        click.echo(f'{{"url": "{url}"}}')
    else:
        click.echo(f"{url}\n(this machine only; Ctrl-C ends it)")
