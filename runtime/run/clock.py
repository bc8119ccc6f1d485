"""How long a run has worked: over all processes that wrote it, and with what a dead one noted."""

from __future__ import annotations

import asyncio
import time

from bigpe.services.store.database import Store

NOTED_EVERY_S = 5.0
"""At most so much is lost when the process is killed."""


class RunClock:
    """The seconds of this process, added to those of earlier ones."""

    def __init__(self, store: Store, run: str, before_s: float) -> None:
        self._store = store
        self._run = run
        self._before_s = before_s
        self._start = time.monotonic()
        self._noted = 0.0

    @property
    def seconds(self) -> float:
        """So far, by all processes."""
        return self._before_s + time.monotonic() - self._start

    async def keep(self) -> None:
        """Note the time now and then, until cancelled."""
        while True:
            await asyncio.sleep(NOTED_EVERY_S)
            await self.note()

    async def note(self) -> None:
        """Note what has passed since the last time."""
        passed = self.seconds - self._before_s
        new, self._noted = passed - self._noted, passed
        await self._store.write([("add_run_seconds", {"name": self._run, "seconds": new})])

    async def reach(self, minutes: float) -> None:
        """Returns once the run has worked so long."""
        await asyncio.sleep(max(0.0, 60 * minutes - self.seconds))
