"""A thread that works off what has come since it last looked, all of it in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Job = TypeVar("Job")
Res = TypeVar("Res")


class GroupThread(Generic[Job, Res]):
    """Jobs in order, never two at a time. A lone job starts at once; under load they share the
    way to the thread and back, which costs more than a short query does."""

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Res | Exception]],
        *,
        name: str,
        max_group: int,
    ) -> None:
        """`work` runs on the thread and answers each job of a group with its result or failure."""
        self._work = work
        self._max_group = max_group
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._queue: asyncio.Queue[tuple[Job, asyncio.Future[Res]] | None] = asyncio.Queue()
        self._pump = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        """Whether it takes no further jobs."""
        return self._pump.done()

    async def do(self, job: Job) -> Res:
        """The job's result; raises its failure. A caller that is cancelled leaves the job in."""
        done: asyncio.Future[Res] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((job, done))
        return await done

    async def close(self) -> None:
        """Finish what is queued and end the thread; a second call does nothing."""
        self._queue.put_nowait(None)
        await self._pump
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        ending = False
        while not ending:
            group = [await self._queue.get()]
            while not self._queue.empty() and len(group) < self._max_group:
                group.append(self._queue.get_nowait())
            ending = None in group
            places = [place for place in group if place is not None]
            if not places:
                continue
            jobs = [job for job, _ in places]
            try:
                answers = await loop.run_in_executor(self._thread, self._work, jobs)
            except Exception as error:  # noqa: BLE001 - it goes to who asked
                answers = [error] * len(jobs)
            for (_, done), answer in zip(places, answers, strict=True):
                if done.done():
                    continue  # its caller was cancelled
                if isinstance(answer, Exception):
                    done.set_exception(answer)
                else:
                    done.set_result(answer)
