"""Working time of a run, summed over all processes that wrote it."""

from __future__ import annotations

import asyncio
import time

from bigpe.services.store.database import Store

NOTED_EVERY_S = 5.0
"""Interval between writes. A killed process loses at most this much working time."""


class RunClock:
    """Adds the seconds of this process to those of earlier processes."""

    def __init__(self, store: Store, run: str, before_s: float) -> None:
        self._store = store
        self._run = run
        self._before_s = before_s
        self._start = time.monotonic()
        self._noted = 0.0

    @property
    def seconds(self) -> float:
        """Working time so far, of all processes."""
        return self._before_s + time.monotonic() - self._start

    async def keep(self) -> None:
        """Store the time every `NOTED_EVERY_S` seconds, until cancelled."""
        while True:
            await asyncio.sleep(NOTED_EVERY_S)
            await self.note()

    async def note(self) -> None:
        """Store the time since the last call."""
        passed = self.seconds - self._before_s
        new, self._noted = passed - self._noted, passed
        await self._store.write([("add_run_seconds", {"name": self._run, "seconds": new})])

    async def reach(self, minutes: float) -> None:
        """Return once the run has worked for `minutes`."""
        await asyncio.sleep(max(0.0, 60 * minutes - self.seconds))
