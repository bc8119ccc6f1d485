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
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.run.session import Session
from bigpe.runtime.transcript.health import history_of
from bigpe.runtime.transcript.result import result_json, result_table

FAILED = 1
"""Exit code of a run in which nothing could be compared."""
EXIT_CODES = """
\b
Exit codes: 0 the run has ended, also by a budget; 130 paused by Ctrl-C or
SIGTERM; 2 wrong usage or settings; 1 any other failure.
"""

verbose_option = click.option("-v", "--verbose", is_flag=True, help="Also show the log.")

metrics_option = click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve figures for Prometheus on this port of 127.0.0.1.",
)


@click.command(
    epilog=f"""
\b
Examples:
  bigpe run                              start the run `main`, or go on with it
  bigpe run wide --set run.pool_size=8   another run, with another pool
  bigpe run --json > result.json
{EXIT_CODES}"""
)
@run_argument
@project_option
@set_option
@verbose_option
@metrics_option
@json_option
def run(
    run: str,
    project: Path,
    changes: tuple[str, ...],
    verbose: bool,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Start a run by bigpe.toml, or go on with the one of that name.

    Budgets, rounds, patience, concurrency and prices may differ from those that a run began with:
    they take effect, and a run that such a limit stopped goes on. Time-outs, addresses of workers
    and [workers] may differ, too. Settings that results depend on need a fork.

    Ctrl-C finishes what is in flight and stops; a second Ctrl-C stops at once. Nothing that was
    stored is lost, and the next `run` or `resume` goes on.
    """
    config = with_changes(load_config(Project(project).config), changes)
    work = go(run, project, config, verbose=verbose, as_json=as_json, metrics_port=metrics_port)
    raise SystemExit(perform(work))


@click.command(
    epilog=f"""
\b
Examples:
  bigpe resume
  bigpe resume wide -p my-project
  bigpe resume --set budget.renders=400  go on with a larger budget
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
    """Go on with a run that was paused, killed or stopped by a limit, by its own settings."""

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
    """Start the run RUN with the settings of PARENT, less what --set changes.

    The fork pays for nothing that the project has paid for already: equal prompts are not
    rewritten, painted or scored again. Its own budget counts them all the same, so that it decides
    alike whatever was there before.
    """

    async def work() -> int:
        config = with_changes(await settings_of(parent, project), changes)
        return await go(
            run,
            project,
            config,
            verbose=verbose,
            as_json=as_json,
            fork={"parent": parent, "from_best": from_best},
        )

    raise SystemExit(perform(work()))


async def settings_of(run: str, project: Path) -> BigpeConfig:
    """The stored configuration of a run; ConfigError when there is none."""
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
    fork: Mapping[str, Any] | None = None,
) -> int:
    """Run to the end or a pause, showing progress; returns the exit code."""
    configure_logging(Project(folder).log(name), verbose=verbose)
    console = stderr()
    with Interrupts(console) as interrupts:
        try:
            async with Session.open(name, config, project=folder, **(fork or {})) as session:
                interrupts.pause_first(session.pause, lambda: session.pausing)
                for change in session.changes:
                    console.print(Text(str(change)))
                if session.complete:
                    console.print(Text(f"run {name!r} has ended; nothing more was done"))
                else:
                    await _drive(session, metrics_port)
                return await report(session, as_json=as_json)
        except asyncio.CancelledError:
            console.print(Text("stopped before the run went on; nothing is lost"))
            return PAUSED


class Watcher(Protocol):
    """Something that follows a run."""

    def show(self, message: Message) -> None:
        """Take a message into account."""
        ...


@asynccontextmanager
async def earlier_rounds(
    session: Session, going: asyncio.Event
) -> AsyncGenerator[asyncio.Task[RoundHistory]]:
    """The rounds of earlier processes, read while the run goes on already: once `going` is set."""
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
    """Run with live progress, to the end or until it is stopped at once."""
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
    """Print the result, or how to go on; returns the exit code."""
    campaign = session.coordinator.campaign
    if campaign.stopped is None:
        hint = f"bigpe resume {session.name} -p {session.project.folder}"
        stderr().print(
            Text(f"paused after round {campaign.applied}; go on with: {hint}"), soft_wrap=True
        )
        return PAUSED
    await _show_result(session, campaign.stopped, as_json=as_json)
    if session.pool.best().mean is not None:
        return 0
    if campaign.applied or campaign.failed:
        stderr().print(Text("nothing is known of any instruction: no round gave a result"))
        return FAILED
    stderr().print(
        Text(
            "nothing is known of any instruction yet: the run ended before its first round did; "
            f"raise the limit, then go on: bigpe resume {session.name} -p {session.project.folder}"
        ),
        soft_wrap=True,
    )
    return 0


async def _show_result(session: Session, stopped: RunStopped, *, as_json: bool) -> None:
    campaign = session.coordinator.campaign
    rows, best = session.pool.rows(), session.pool.best()
    if as_json:
        used = campaign.used.renders
        print_json(result_json(rows, best, campaign.plan, stopped.reason, used))
        return
    console = stdout()
    console.print(result_table(rows, best=stopped.best))
    console.print(Text(f"stopped: {stopped.reason}"))
    if best.mean is not None:
        console.print(Text(f"best: {best.instruction.text}"))
