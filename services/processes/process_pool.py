"""A pool of equal worker processes that grows under load."""

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
    """Sends each call to a free process; starts processes one after another.

    A start takes seconds, which does not pay in a short run. So the next process starts when calls
    have waited, in total, as long as a start takes. The total cost is then at most twice the
    optimum.
    """

    def __init__(self, make: Callable[[], SupervisedProcess], most: int) -> None:
        """`make` returns a process that is not started; `most`: maximum number of processes."""
        self._make = make
        self.most = most
        self._all: list[SupervisedProcess] = []
        # Last in, first out: under low load, one process does all the work.
        self._free: asyncio.LifoQueue[SupervisedProcess] = asyncio.LifoQueue()
        self._waited_s = 0.0
        self._starting: asyncio.Task[None] | None = None
        self._free.put_nowait(self._another())

    async def call(self, method: str, payload: Json) -> Json:
        """Call a free process; raises the errors of `SupervisedProcess.call`."""
        since = time.monotonic()
        child = await self._free.get()
        self._waited_s += time.monotonic() - since
        self._grow()
        try:
            return await child.call(method, payload)
        finally:
            self._free.put_nowait(child)

    async def close(self) -> None:
        """End all processes permanently."""
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
            self.most = 0  # the running processes continue
            log.warning("no further process", cause=str(error))
            return
        self._free.put_nowait(child)
