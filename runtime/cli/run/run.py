"""`bigpe run`, `bigpe resume` and `bigpe fork`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import click
from rich.text import Text

from bigpe.agents.diagnostics.round_history import RoundHistory
from bigpe.agents.messages.core import Message, RunStopped
from bigpe.runtime.cli.common import (
    PAUSED,
    fresh_option,
    json_option,
    perform,
    print_json,
    project_option,
    reading,
    run_argument,
    set_option,
    stderr,
    stdout,
    with_changes,
)
from bigpe.runtime.cli.signals import Interrupts
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.monitoring.logging import configure_logging
from bigpe.runtime.run.monitoring.metrics import RunMeter
from bigpe.runtime.run.monitoring.progress import RunView
from bigpe.runtime.run.monitoring.tracing import Tracing
from bigpe.runtime.run.probe.first_question import first_question
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.run.session import Session
from bigpe.runtime.transcript.health import history_of
from bigpe.runtime.transcript.result import result_json, result_table
from bigpe.services.core.errors import PAUSES_RUN

FAILED = 1
"""Exit code of a run without a result, or stopped by the alarm about its first rewrites."""
EXIT_CODES = """
\b
Exit codes: 0 the run has ended, also by a budget; 130 paused by Ctrl-C,
SIGTERM, an outage or a spent quota; 2 wrong usage or settings; 1 any other
failure, also a run without a result.
"""

verbose_option = click.option("-v", "--verbose", is_flag=True, help="Also show the log.")

seeds_option = click.option(
    "--seeds",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Start from these instructions: a .toml file of them, or a text file that is one.",
)

metrics_option = click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve figures for Prometheus on this port of 127.0.0.1.",
)


@click.command(
    epilog=f"""
\b
Examples:
  bigpe run                              start or continue the run `main`
  bigpe run wide --set run.pool_size=8   another run, with another pool
  bigpe run mine --seeds my-prompt.txt   can your own system prompt be beaten?
  bigpe run --json > result.json
{EXIT_CODES}"""
)
@run_argument
@project_option
@set_option
@seeds_option
@fresh_option
@verbose_option
@metrics_option
@json_option
def run(
    run: str,
    project: Path,
    changes: tuple[str, ...],
    seeds: Path | None,
    fresh: bool,
    verbose: bool,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Start a run by bigpe.toml, or continue the stored run of that name.

    Budgets, rounds, patience, concurrency and prices of a stored run may change: they take effect,
    and a run that such a limit stopped continues. Time-outs, addresses of workers and [workers] may
    change, too. Settings that results depend on need a fork.

    Ctrl-C finishes the steps in flight and stops; a second Ctrl-C stops at once. No stored message
    is lost, and the next `run` or `resume` continues.
    """
    config = with_changes(load_config(Project(project).config), changes)
    if seeds is not None:
        config = with_seeds(config, seeds, project)
    work = go(
        run,
        project,
        config,
        verbose=verbose,
        as_json=as_json,
        metrics_port=metrics_port,
        more={"fresh": fresh},
    )
    raise SystemExit(perform(work))


@click.command(
    epilog=f"""
\b
Examples:
  bigpe resume
  bigpe resume wide -p my-project
  bigpe resume --set budget.renders=400  continue with a larger budget
{EXIT_CODES}"""
)
@run_argument
@project_option
@set_option
@verbose_option
@metrics_option
@json_option
def resume(
    run: str,
    project: Path,
    changes: tuple[str, ...],
    verbose: bool,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Continue a run that was paused, killed or stopped by a limit, with its own settings."""

    async def work() -> int:
        config = with_changes(await settings_of(run, project), changes) if changes else None
        return await go(
            run, project, config, verbose=verbose, as_json=as_json, metrics_port=metrics_port
        )

    raise SystemExit(perform(work()))


@click.command(
    epilog=f"""
\b
Examples:
  bigpe fork main strict --set score.model=hpsv2.1   the same run by another scorer
  bigpe fork main again --set run.seed=1 --from-best
{EXIT_CODES}"""
)
@click.argument("parent")
@click.argument("run")
@project_option
@set_option
@click.option("--from-best", is_flag=True, help="The parent's best instruction is a seed, too.")
@verbose_option
@json_option
def fork(
    parent: str,
    run: str,
    project: Path,
    changes: tuple[str, ...],
    from_best: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Start the run RUN with the settings of PARENT and the changes of --set.

    The fork pays for nothing that the project has paid for already: equal prompts are not
    rewritten, painted or scored again. Its own budget counts them nevertheless, so that its
    decisions do not depend on what is stored.
    """

    async def work() -> int:
        config = with_changes(await settings_of(parent, project), changes)
        return await go(
            run,
            project,
            config,
            verbose=verbose,
            as_json=as_json,
            more={"parent": parent, "from_best": from_best},
        )

    raise SystemExit(perform(work()))


def with_seeds(config: BigpeConfig, file: Path, project: Path) -> BigpeConfig:
    """The configuration with the instructions of `file`, a path from the present folder."""
    here, folder = file.resolve(), project.resolve()
    name = here.relative_to(folder) if here.is_relative_to(folder) else here
    data = config.data.model_copy(update={"seeds": name.as_posix()})
    return config.model_copy(update={"data": data})


async def settings_of(run: str, project: Path) -> BigpeConfig:
    """The stored configuration of a run. ConfigError if there is no such run."""
    async with reading(project) as store:
        return (await require_stored_run(store, run)).config


async def go(
    name: str,
    folder: Path,
    config: BigpeConfig | None,
    *,
    verbose: bool,
    as_json: bool,
    metrics_port: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> int:
    """Run to the end or a pause, showing progress; returns the exit code.

    `more`: further arguments of `Session.open`.
    """
    configure_logging(Project(folder).log(name), verbose=verbose)
    console = stderr()
    before_start = first_question(lambda line: console.print(Text(line), soft_wrap=True))
    with Interrupts(console) as interrupts:
        try:
            async with Session.open(
                name, config, project=folder, before_start=before_start, **(more or {})
            ) as session:
                interrupts.pause_first(session.pause, lambda: session.pausing)
                if session.begins_again:
                    console.print(Text(f"run {name!r} had no result: it begins again"))
                for change in session.changes:
                    console.print(Text(str(change)))
                if session.complete:
                    console.print(Text(f"run {name!r} has ended; nothing more was done"))
                else:
                    await _drive(session, metrics_port)
                return await report(session, as_json=as_json)
        except PAUSES_RUN as error:
            hint = f"bigpe resume {name} -p {folder}"
            console.print(Text(f"paused: {error}; go on with: {hint}", "yellow"), soft_wrap=True)
            return PAUSED
        except asyncio.CancelledError:
            console.print(Text("stopped before the run continued; nothing is lost"))
            return PAUSED


class Watcher(Protocol):
    """A view of a run that takes each of its messages."""

    def show(self, message: Message) -> None:
        """Display or count a message."""
        ...


@asynccontextmanager
async def earlier_rounds(
    session: Session, going: asyncio.Event
) -> AsyncGenerator[asyncio.Task[RoundHistory]]:
    """Read the rounds of earlier processes, after `going` is set and while the run works."""
    async with reading(session.project.folder) as store:
        row = await store.row("last_seq", run=session.name)
        upto = row["seq"] if row else 0

        async def read() -> RoundHistory:
            await going.wait()
            return await history_of(store, session.name, upto)

        task = asyncio.create_task(read())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _drive(session: Session, metrics_port: int | None) -> None:
    """Run with live progress, to the end or an immediate stop."""
    console, going = stderr(), asyncio.Event()
    try:
        async with AsyncExitStack() as stack:
            past = await stack.enter_async_context(earlier_rounds(session, going))
            watchers: list[Watcher] = [
                stack.enter_context(RunView(session, console, past)),
                stack.enter_context(Tracing()),
            ]
            if metrics_port is not None:
                watchers.append(stack.enter_context(RunMeter(session, metrics_port)))
            async for message in session.run():
                going.set()
                for watcher in watchers:
                    watcher.show(message)
    except asyncio.CancelledError:
        console.print(Text("stopped at once"))


async def report(session: Session, *, as_json: bool) -> int:
    """Print the result, or how to continue; returns the exit code."""
    campaign = session.coordinator.campaign
    if campaign.stopped is None:
        hint = f"bigpe resume {session.name} -p {session.project.folder}"
        stderr().print(
            Text(f"paused after round {campaign.applied}; go on with: {hint}"), soft_wrap=True
        )
        return PAUSED
    await _show_result(session, campaign.stopped, as_json=as_json)
    begun = bool(campaign.applied or campaign.failed)
    failure = campaign.answers.failure
    if begun and session.pool.best().mean is None:
        failure = failure or "nothing is known of any instruction: no round gave a result"
    if failure or campaign.answers.alarmed:
        where = f"-p {session.project.folder}"
        again = f"mend it, then begin again: bigpe run {session.name} {where}"
        if campaign.answers.counts.scored:
            again = f"mend it, then start a fork: bigpe fork {session.name} NEW-NAME {where}"
        stderr().print(Text(f"{failure or campaign.stopped.reason}; {again}"), soft_wrap=True)
        return FAILED
    if campaign.prompt_effect.fault is not None:
        return FAILED
    if not begun:
        stderr().print(
            Text(
                "nothing is known of any instruction yet: the run ended before its first round "
                "did; raise the limit, then go on: bigpe resume "
                f"{session.name} -p {session.project.folder}"
            ),
            soft_wrap=True,
        )
    return 0


async def _show_result(session: Session, stopped: RunStopped, *, as_json: bool) -> None:
    campaign = session.coordinator.campaign
    if as_json:
        print_json(result_json(campaign))
        return
    console, best = stdout(), session.pool.best()
    console.print(result_table(campaign))
    console.print(Text(f"stopped: {stopped.reason}"))
    useless = campaign.prompt_effect.fault is not None or campaign.answers.empty
    if best.mean is not None and not useless:
        console.print(Text(f"best: {best.instruction.text}"))
