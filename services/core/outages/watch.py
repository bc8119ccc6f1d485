"""The outages of a session's services: how long calls wait, what people see, and when waits end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bigpe.services.core.errors import OutageError
from bigpe.services.core.outages.clock import Clock, MonotonicClock
from bigpe.services.core.retrying import backoff_s

NOTABLE_WAIT_S = 5.0
"""A first wait that is shorter is not reported: most such failures pass at the next try."""


@dataclass(frozen=True)
class OutageRule:
    """How long a service is waited for, and how often it is tried meanwhile."""

    limit_s: float = 600.0
    """Longest outage that is waited for, seconds; 0: no wait, each failure is the caller's."""
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def wait_s(self, tries: int) -> float:
        """The wait after `tries` failed tries in a row (from 1), at least half of it fixed."""
        longest = backoff_s(tries, first_s=self.first_wait_s, longest_s=self.longest_wait_s)
        return longest * random.uniform(0.5, 1.0)


NO_WAITING = OutageRule(limit_s=0.0)


class Outage(NamedTuple):
    """A service that answers no call."""

    service: str
    """Kind and address, for people."""
    cause: str
    """The last failure."""
    since: float
    """Clock time of the first failure."""
    tries: int
    """Failed tries in a row."""
    next_try: float
    """Clock time of the next try."""


class OutageReport(NamedTuple):
    """News of an outage."""

    outage: Outage
    lasted_s: float
    """Seconds since the first failure."""
    wait_s: float
    """Seconds until the next try."""
    limit_s: float
    over: bool
    """Whether the service answers again, or is no longer waited for."""

    @property
    def notable(self) -> bool:
        """Whether it is worth a permanent line: the begin, the end, each doubling of the tries."""
        tries = self.outage.tries
        return self.over or tries & (tries - 1) == 0

    @property
    def line(self) -> str:
        """The news as one line of text."""
        if self.over:
            return f"{self.outage.service}: the wait of {self.lasted_s:.0f} s is over"
        return (
            f"waiting for {self.outage.service}, next try in {self.wait_s:.0f} s (for "
            f"{self.lasted_s:.0f} s, at most {self.limit_s / 60:g} minutes): {self.outage.cause}"
        )


class OutageWatch:
    """Rule, clock and present outages of the services of a session."""

    def __init__(self, rule: OutageRule | None = None, clock: Clock | None = None) -> None:
        self.rule = rule or OutageRule()
        self.clock: Clock = clock or MonotonicClock()
        self._present: dict[str, Outage] = {}
        self._listeners: list[Callable[[OutageReport], None]] = []
        self._endings: list[Callable[[], None]] = []
        self._abandoned = asyncio.Event()

    def listen(self, listener: Callable[[OutageReport], None]) -> None:
        """Call `listener` when a wait begins, at each further failed try, and at the end."""
        self._listeners.append(listener)

    @property
    def present(self) -> list[OutageReport]:
        """The outages that calls wait for now."""
        return [self._report(outage, over=False) for outage in self._present.values()]

    def note(self, outage: Outage) -> None:
        """Record an outage, or its next failed try."""
        if outage.tries > 1 or outage.next_try - self.clock.now() >= NOTABLE_WAIT_S:
            self._present[outage.service] = outage
            self._tell(self._report(outage, over=False))

    def end(self, service: str) -> None:
        """Record that calls of `service` wait no longer."""
        if outage := self._present.pop(service, None):
            self._tell(self._report(outage, over=True))

    def on_abandon(self, action: Callable[[], None]) -> None:
        """Call `action` when the waits are abandoned."""
        self._endings.append(action)

    @property
    def abandoned(self) -> bool:
        """Whether no call waits any more."""
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """End all waits with OutageError: the session is pausing or ends."""
        self._abandoned.set()
        for action in self._endings:
            action()

    async def sleep(self, seconds: float) -> None:
        """Wait. Raises OutageError as soon as the waits are abandoned."""
        ways = [
            asyncio.ensure_future(self.clock.sleep(seconds)),
            asyncio.ensure_future(self._abandoned.wait()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        if self.abandoned:
            raise abandoned_wait()

    def _report(self, outage: Outage, *, over: bool) -> OutageReport:
        now = self.clock.now()
        wait_s = max(0.0, outage.next_try - now)
        return OutageReport(outage, now - outage.since, wait_s, self.rule.limit_s, over)

    def _tell(self, report: OutageReport) -> None:
        for listener in self._listeners:
            listener(report)


def abandoned_wait() -> OutageError:
    """The error of a call whose wait was abandoned."""
    return OutageError("a call was not made: what it belongs to ended during an outage")
