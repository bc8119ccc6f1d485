"""`bigpe rate`."""

from __future__ import annotations

import contextlib
import getpass
from functools import partial
from pathlib import Path

import click
from rich.text import Text

from bigpe.runtime.cli.common import (
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    require_run,
    run_argument,
    stdout,
)
from bigpe.runtime.cli.share.view import announce, port_option
from bigpe.runtime.cli.signals import call_on_signals
from bigpe.runtime.evaluation.rating import (
    NAIVE,
    Question,
    question_of,
    rating_lines,
    report_of,
    treatment_of,
    votes_of,
)
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import read_summary
from bigpe.runtime.viewer.pages.rate import RatePages, Rater
from bigpe.runtime.viewer.server import LocalServer
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store


@click.command(
    epilog="""
\b
Examples:
  bigpe rate                          naive against the best instruction, as yourself
  bigpe rate --rater anna --pairs 30  another person, on the same machine
  bigpe rate --a 28266a69 --b best    two instructions
  bigpe rate --report                 what the votes say, and whether the scorer agrees
"""
)
@run_argument
@project_option
@click.option("--a", "first", default=NAIVE, show_default=True, help="naive, best or an id.")
@click.option("--b", "second", default="best", show_default=True, help="naive, best or an id.")
@click.option("--pairs", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--rater", help="Whose votes these are  [default: your login name]")
@click.option("--report", is_flag=True, help="Print the statistics of all votes, and exit.")
@port_option
@json_option
def rate(
    run: str,
    project: Path,
    first: str,
    second: str,
    pairs: int,
    rater: str | None,
    report: bool,
    port: int,
    as_json: bool,
) -> None:
    """Ask a person which of two pictures they prefer, blind, in the browser.

    Both have the same naive prompt and seed; sides are random. Keys: 1 left, 2 right, 0 no
    difference. Each vote is stored at once: stop with Ctrl-C and continue later. It uses pictures
    of `bigpe evaluate` if there are any, else those of the run's own rounds.
    """
    with contextlib.suppress(KeyboardInterrupt):
        if report:
            perform(_report(run, project, first, second, as_json))
        else:
            name = rater or _login_name()
            perform(_serve(run, project, (first, second), pairs, name, port, as_json))


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise ConfigError("this process has no login name; name the rater with --rater") from error


async def _serve(
    run: str,
    folder: Path,
    sides: tuple[str, str],
    limit: int,
    name: str,
    port: int,
    as_json: bool,
) -> None:
    async with Store(Project(folder).database) as store:
        await require_run(store, run)
        facts = await read_summary(store, run)
        first, second = (treatment_of(facts, side) for side in sides)
        question = await question_of(store, facts, run, first, second)
        pages = RatePages(Project(folder), store, Rater(run, name, question, limit))
        server = LocalServer(pages.app(), port=port, writable=True)
        call_on_signals(server.stop)
        await server.serve(partial(_announce, server.url, question, as_json))


def _announce(url: str, question: Question, as_json: bool) -> None:
    announce(url, as_json)
    if not as_json:
        note = f", {question.equal} with equal pictures left out" if question.equal else ""
        click.echo(f"{len(question.pairs)} pairs of {question.source} prompts{note}")


async def _report(run: str, folder: Path, first: str, second: str, as_json: bool) -> None:
    async with reading(folder, run) as store:
        facts = await read_summary(store, run)
        ids = [treatment_of(facts, side) for side in (first, second)]
        report = report_of(await votes_of(store, run, *ids))
    if as_json:
        print_json({"first": ids[0], "second": ids[1], **report.model_dump()})
        return
    for line in rating_lines(report, *ids):
        stdout().print(Text(line), soft_wrap=True)
