"""A bounded priority queue in front of a batched call. Items fail separately."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from bigpe.services.core.errors import STOPS_RUN, LostWorkerError, ServiceError

Req = TypeVar("Req")
Res = TypeVar("Res")


@runtime_checkable
class ParallelModel(Protocol):
    """A model that takes several calls at the same time."""

    parallelism: int
    """Calls that it takes at the same time."""


def parallelism_of(backend: object, otherwise: int = 1) -> int:
    """Calls that a model takes at the same time; `otherwise` if it has no such attribute."""
    return backend.parallelism if isinstance(backend, ParallelModel) else otherwise


@dataclass(order=True)
class _Item(Generic[Req, Res]):
    priority: int
    order: int
    request: Req = field(compare=False)
    result: asyncio.Future[Res] = field(compare=False)


class BatchQueue(Generic[Req, Res]):
    """Collects items of callers into batches; each caller waits for its own item.

    A batch that fails is tried again item by item, so that only the faulty item fails.
    An item that was alone when the process was lost is sent alone until it has succeeded.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Req]], Awaitable[Sequence[Res | Exception]]],
        *,
        max_batch: int,
        max_wait_s: float = 0.0,
        capacity: int = 256,
        max_parallel_batches: int = 1,
    ) -> None:
        """`process` answers each request of a batch, in order, with its result or its failure.

        Requests must be hashable. `max_parallel_batches`: batches that `process` takes at a time.
        """
        self._process = process
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._queue: asyncio.PriorityQueue[_Item[Req, Res]] = asyncio.PriorityQueue()
        self._places = asyncio.Semaphore(capacity)
        self._count = itertools.count()
        self._suspects: set[Req] = set()
        self._max_parallel_batches = max_parallel_batches
        self._workers: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def depth(self) -> int:
        """Number of waiting items."""
        return self._queue.qsize()

    async def submit(self, request: Req, priority: int = 0) -> Res:
        """The result of one request. Lower priorities go first, equal priorities in order.

        Waits while the queue is full. The item of a cancelled caller is removed. Raises
        ServiceError if the queue is closed.
        """
        async with self._places:
            if self._closed:
                raise ServiceError("the queue is closed")
            if not self._workers:
                self._workers = [
                    asyncio.create_task(self._work()) for _ in range(self._max_parallel_batches)
                ]
            result: asyncio.Future[Res] = asyncio.get_running_loop().create_future()
            self._queue.put_nowait(_Item(priority, next(self._count), request, result))
            return await result

    async def close(self) -> None:
        """Stop the queue and cancel the waiting callers."""
        self._closed = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait().result.cancel()

    async def _work(self) -> None:
        while True:
            batch: list[_Item[Req, Res]] = []
            try:
                await self._gather(batch)
                await self._settle(batch)
            except asyncio.CancelledError:
                # These items have left the queue, so `close` does not find them.
                for item in batch:
                    item.result.cancel()
                raise

    async def _gather(self, batch: list[_Item[Req, Res]]) -> None:
        """Fill the batch with waiting items and items that arrive within the wait."""
        deadline = 0.0
        limit = self._max_batch
        while len(batch) < limit:
            if batch and self._queue.empty():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                try:
                    item = await asyncio.wait_for(self._queue.get(), left)
                except TimeoutError:
                    break
            else:
                item = await self._queue.get()
            if item.result.done():
                continue
            suspect = item.request in self._suspects
            if batch and suspect:
                self._queue.put_nowait(item)
                break
            batch.append(item)
            if suspect:
                break
            if len(batch) == 1:
                if self._max_parallel_batches > 1:
                    # At most this worker's share, so that all workers are busy.
                    limit = min(limit, math.ceil((1 + self.depth) / self._max_parallel_batches))
                deadline = time.monotonic() + self._max_wait_s

    async def _settle(self, batch: list[_Item[Req, Res]]) -> None:
        try:
            results = await self._process([item.request for item in batch])
            if len(results) != len(batch):
                raise ServiceError(f"{len(results)} answers to {len(batch)} requests")
        except Exception as error:  # noqa: BLE001 - the callers get it
            if len(batch) > 1 and not isinstance(error, STOPS_RUN):
                for item in batch:
                    await self._settle([item])
                return
            if isinstance(error, LostWorkerError):
                self._suspects.add(batch[0].request)
            results = [error] * len(batch)
        for item, result in zip(batch, results, strict=True):
            if not isinstance(result, LostWorkerError):
                self._suspects.discard(item.request)
            _finish(item, result)


def _finish(item: _Item[Req, Res], result: Res | Exception) -> None:
    if item.result.done():
        return
    if isinstance(result, Exception):
        item.result.set_exception(result)
    else:
        item.result.set_result(result)
