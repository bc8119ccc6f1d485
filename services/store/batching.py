"""Asyncio queue that hands all waiting jobs to one coroutine as a group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Res = TypeVar("Res")


class GroupQueue(Generic[Job, Res]):
    """Jobs run in order, one group at a time.

    A single job starts at once. Jobs that arrive while a group runs form the next group.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Job]], Awaitable[Sequence[Res | Exception]]],
        *,
        max_group: int,
    ) -> None:
        """`process` returns the result or the failure of each job of a group, in order."""
        self._process = process
        self._max_group = max_group
        self._queue: asyncio.Queue[tuple[Job, asyncio.Future[Res]] | None] = asyncio.Queue()
        self._worker = asyncio.create_task(self._run())

    async def submit(self, job: Job) -> Res:
        """Return the job's result or raise its failure. A cancelled caller's job still runs."""
        result: asyncio.Future[Res] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((job, result))
        return await result

    async def close(self) -> None:
        """Finish the jobs in the queue; a second call does nothing."""
        self._queue.put_nowait(None)
        await self._worker

    async def _run(self) -> None:
        closing = False
        while not closing:
            group = [await self._queue.get()]
            while not self._queue.empty() and len(group) < self._max_group:
                group.append(self._queue.get_nowait())
            closing = None in group
            entries = [entry for entry in group if entry is not None]
            if not entries:
                continue
            try:
                answers = await self._process([job for job, _ in entries])
            except Exception as error:  # noqa: BLE001 - each caller of the group gets it
                answers = [error] * len(entries)
            for (_, result), answer in zip(entries, answers, strict=True):
                if result.done():
                    continue  # its caller was cancelled
                if isinstance(answer, Exception):
                    result.set_exception(answer)
                else:
                    result.set_result(answer)
