"""Live progress of a run: a panel on a terminal, else one line per round."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bigpe.agents.campaign.budget import forecast
from bigpe.agents.diagnostics.faults import RunFinding, diagnose
from bigpe.agents.diagnostics.round_history import RoundHistory
from bigpe.agents.messages.core import (
    ArmPulled,
    ImageScored,
    Message,
    PoolChanged,
    RewriteRequested,
    RunStopped,
    StepFailed,
)
from bigpe.runtime.formatting import estimate, points, quote
from bigpe.runtime.run.monitoring.forecast_text import (
    amounts,
    forecast_text,
    usage_text,
    within_minutes,
)
from bigpe.runtime.run.session import Session
from bigpe.services.core.outages.watch import OutageReport


class RunView:
    """Prints the progress of a session.

    Use as a context manager around the run and pass each message to `show`.
    """

    def __init__(
        self, session: Session, console: Console, past: asyncio.Task[RoundHistory] | None = None
    ) -> None:
        """`past`: reads the rounds of earlier processes in the background."""
        self._session = session
        self._console = console
        self._start = time.monotonic()
        self._images = 0
        self._first = session.coordinator.campaign.applied
        """Rounds that earlier processes finished."""
        self._news = ""
        self._past = past
        self._history = None if past else RoundHistory()
        self._unread: list[Message] = []
        """Messages that are not yet in the history."""
        self._findings: list[RunFinding] = []
        self._progress = Progress(
            TextColumn("round"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        plan = session.coordinator.campaign.plan if session.started else None
        total = plan.rounds if plan else session.config.run.rounds
        done = session.coordinator.campaign.applied
        self._task = self._progress.add_task("rounds", total=total, completed=done)
        session.services.watch.listen(self._print_wait)
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> RunView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, message: Message) -> None:
        """Print or count a message."""
        self._unread.append(message)
        match message:
            case ImageScored():
                self._images += 1
            case RewriteRequested():
                arm = message.instruction
                self._news = f"round {message.round}: pulling {arm.id[:8]} {quote(arm.text, 90)}"
            case ArmPulled():
                self._print_pull(message)
            case PoolChanged():
                self._print_round(message)
            case StepFailed():
                self._print(
                    f"  {message.actor} failed (attempt {message.attempt}"
                    f"{', trying again' if message.will_retry else ''}): {message.cause}",
                    style="red",
                )
            case RunStopped():
                self._progress.update(self._task, completed=message.round)
            case _:
                pass

    def _print_wait(self, report: OutageReport) -> None:
        if report.notable:
            self._print(f"  {report.line}", style="yellow")

    def _print_pull(self, message: ArmPulled) -> None:
        if message.unchanged:
            self._print(
                f"round {message.round:>3}  {message.instruction[:8]}  rewrites as its parent; "
                "nothing was rendered"
            )
            return
        gains = [gain.gain for gain in message.gains]
        mean = points(sum(gains) / len(gains)) if gains else "no result"
        lost = f", {message.missing} missing" if message.missing else ""
        self._print(
            f"round {message.round:>3}  {message.instruction[:8]}  gain {mean} "
            f"over {len(gains)} prompts{lost}"
        )

    def _print_round(self, message: PoolChanged) -> None:
        self._progress.update(self._task, completed=message.round)
        rounds = self._session.coordinator.campaign.plan.rounds
        if not self._console.is_terminal and message.round % max(1, rounds // 10) == 0:
            self._print(f"           so far {self._usage()}", style="dim")
        for instruction in message.admitted:
            self._print(
                f"           new {instruction.id[:8]}: {quote(instruction.text, 120)}",
                style="green",
            )
        self._print_new_faults()
        if self._console.is_terminal:
            self._live.refresh()  # a short round may end before the next automatic refresh

    def _print_new_faults(self) -> None:
        """Print new findings; earlier findings stay in the panel."""
        if (history := self._read_history()) is None:
            return
        for message in self._unread:
            history.add(message)
        self._unread = []
        standing = {finding.fault for finding in self._findings}
        self._findings = diagnose(history.facts)
        for finding in self._findings:
            if finding.fault not in standing:
                self._print(f"  look: {finding.line}", style="yellow")

    def _read_history(self) -> RoundHistory | None:
        """The history; None until the rounds of earlier processes are read.

        Findings in those rounds were printed by the earlier processes.
        """
        if self._history is None and self._past is not None and self._past.done():
            self._history = self._past.result()
            self._findings = diagnose(self._history.facts)
        return self._history

    def _print(self, line: str, style: str = "") -> None:
        """Print a permanent line; untrusted text is never read as markup."""
        self._console.print(Text(line, style=style), soft_wrap=True)

    def _render(self) -> Group:
        elapsed = max(time.monotonic() - self._start, 1e-6)
        line = f"{self._images} pictures scored ({self._images / elapsed:.2f}/s)"
        line += f", best {self._best()}"
        lines = [Text(self._news), Text(line, style="dim"), Text(self._usage(), "dim")]
        waits = self._session.services.watch.present
        lines += [Text(report.line, style="yellow") for report in waits]
        if self._findings:
            faults = "; ".join(f"{f.fault} since round {f.since}" for f in self._findings)
            lines.append(Text(f"look at: {faults} (bigpe status)", style="yellow"))
        return Group(self._progress, *lines)

    def _usage(self) -> str:
        """Usage so far, and the forecast for the end of the run."""
        campaign = self._session.coordinator.campaign
        if not campaign.started:
            return ""
        plan, applied = campaign.plan, campaign.applied
        usage = usage_text(amounts(campaign.used, plan.prices))
        pilot = 2 * plan.pilot_prompts
        expected = forecast(campaign.used, applied, plan.rounds, plan.limits, plan.prices, pilot)
        if expected is None or applied in (self._first, expected.rounds):
            return usage
        each = (time.monotonic() - self._start) / (applied - self._first)
        minutes = self._session.config.budget.minutes
        expected = within_minutes(expected, applied, minutes, self._session.seconds, each)
        return f"{usage}; {forecast_text(expected, applied, each)}"

    def _best(self) -> str:
        if not self._session.coordinator.campaign.applied:
            return "not known yet"
        best = self._session.pool.best()
        if best.mean is None:
            return "not known yet"
        gain = estimate(best.mean, best.lo, best.hi, scale=100)
        return f"{best.instruction.id[:8]} {gain}"
