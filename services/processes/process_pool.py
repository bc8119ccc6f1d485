"""Equal worker processes: a call goes to one that is free, and there are as many as pay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from bigpe.services.core.errors import BigpeError
from bigpe.services.core.values import Json
from bigpe.services.processes.supervised_process import SupervisedProcess

log = structlog.get_logger("bigpe.children")


class ProcessPool:
    """Workers that are started one after another.

    A start takes seconds, which a short run never earns back. So the next worker is started once
    calls have waited for a free one, all together, for as long as a start takes: at worst, a run
    spends twice what it would have spent had it known how long it would be.
    """

    def __init__(self, make: Callable[[], SupervisedProcess], most: int) -> None:
        """`make` gives a worker, not yet started; `most`: how many there may be."""
        self._make = make
        self.most = most
        self._all: list[SupervisedProcess] = []
        # Last in, first out: who has little to do does it all in one process.
        self._free: asyncio.LifoQueue[SupervisedProcess] = asyncio.LifoQueue()
        self._waited_s = 0.0
        self._starting: asyncio.Task[None] | None = None
        self._free.put_nowait(self._another())

    async def call(self, method: str, payload: Json) -> Json:
        """One call of a free worker; raises what `SupervisedProcess.call` raises."""
        since = time.monotonic()
        child = await self._free.get()
        self._waited_s += time.monotonic() - since
        self._grow()
        try:
            return await child.call(method, payload)
        finally:
            self._free.put_nowait(child)

    async def close(self) -> None:
        """End them all for good."""
        self.most = 0
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*(child.close() for child in self._all))

    def _another(self) -> SupervisedProcess:
        self._all.append(child := self._make())
        return child

    def _grow(self) -> None:
        cost = self._all[-1].start_s
        busy = self._starting is not None and not self._starting.done()
        if cost and self._waited_s >= cost and len(self._all) < self.most and not busy:
            self._waited_s = 0.0
            self._starting = asyncio.create_task(self._start(self._another()))

    async def _start(self, child: SupervisedProcess) -> None:
        try:
            await child.open()
        except BigpeError as error:
            self.most = 0  # those that are there go on
            log.warning("no further process", cause=str(error))
            return
        self._free.put_nowait(child)
