"""The stored state of a run: running, paused, complete or failed, and the reason.

Other processes read it, for example `bigpe status` and the pages of `bigpe view`.
"""

from __future__ import annotations

import asyncio
import contextlib

from bigpe.agents.messages.core import RunStopped
from bigpe.services.core.errors import PAUSES_RUN, BigpeError
from bigpe.services.core.outages.watch import OutageReport, OutageWatch
from bigpe.services.store.database import Store


class RunState:
    """Writes the state of a run."""

    def __init__(self, store: Store, run: str, watch: OutageWatch) -> None:
        """`watch`: while a service is waited for, the reason says so."""
        self._store = store
        self._run = run
        self._waiting: dict[str, str] = {}
        self._news = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        watch.listen(self._note)

    async def begin(self) -> None:
        """The run is running. From now on the reason is what is waited for, until `end`."""
        await self._write("running", "")
        self._keeping = asyncio.create_task(self._keep())

    def close(self) -> None:
        """Write no longer what is waited for."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def _keep(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._write("running", "; ".join(self._waiting.values()))

    async def end(self, error: BaseException | None, stopped: RunStopped | None) -> None:
        """The run is paused, complete or failed. Raises `error`, if there is one."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])  # it must not write after this
        if error is not None:
            state = "paused" if isinstance(error, PAUSES_RUN) else "failed"
            with contextlib.suppress(BigpeError):
                await self._write(state, str(error))
            raise error
        await self._write(*(("complete", stopped.reason) if stopped else ("paused", "")))

    async def _write(self, state: str, reason: str) -> None:
        values = {"name": self._run, "state": state, "reason": reason}
        await self._store.write([("set_run_state", values)])

    def _note(self, report: OutageReport) -> None:
        if report.over:
            self._waiting.pop(report.outage.service, None)
        else:
            self._waiting[report.outage.service] = report.line
        self._news.set()
