"""Renderer and scorer that run on bigpe's own workers, over HTTP or in Ray actors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ValidationError

from bigpe.services.core.errors import BigpeError, ServiceError, error_from_json
from bigpe.services.core.values import Image, Json, RenderRequest, Score, ScoreRequest
from bigpe.services.workers.wire_format import Images, ItemFormat, RenderItems, ScoreItems

Req = TypeVar("Req")
Res = TypeVar("Res")
A = TypeVar("A")
B = TypeVar("B")


class WorkerPool(Protocol):
    """Workers of one kind with one fingerprint."""

    parallelism: int
    """Batches that all workers together take at the same time."""

    async def open(self) -> str:
        """Reach or start the workers; returns their fingerprint. ConfigError if they differ."""
        ...

    async def call(self, payload: Json) -> Json:
        """The answer of one worker. TransientServiceError if no worker could give it."""
        ...

    async def close(self) -> None:
        """Release the workers."""
        ...


class RemoteModel(Generic[Req, Res]):
    """A renderer or scorer on a pool of workers."""

    def __init__(self, pool: WorkerPool, items: ItemFormat[Req, Res]) -> None:
        self.parallelism = pool.parallelism
        self._pool = pool
        self._items = items

    async def open(self) -> str:
        """Reach or start the workers; returns the fingerprint that all of them have."""
        return await self._pool.open()

    async def close(self) -> None:
        """Release the workers."""
        await self._pool.close()

    async def _call(self, requests: Sequence[Req]) -> Sequence[Res | Exception]:
        """A result or an error for each request, in order."""
        written = await self._each(self._items.write_request, requests)
        sent = [item for item in written if not isinstance(item, Exception)]
        received: list[Json] = []
        if sent:
            answer = await self._pool.call({"items": sent})
            received = answered(answer, len(sent), self._items.error)
        results = iter(await self._each(self._read, received))
        return [item if isinstance(item, Exception) else next(results) for item in written]

    async def _each(self, work: Callable[[A], B], values: Sequence[A]) -> Sequence[B | BigpeError]:
        """`work` on each value, in threads; an error is that value's result."""

        def attempt(value: A) -> B | BigpeError:
            try:
                return work(value)
            except ValidationError as error:
                count = error.error_count()
                return self._items.error(f"the worker's answer is malformed: {count} faults")
            except BigpeError as error:
                return error

        return await asyncio.gather(*(asyncio.to_thread(attempt, value) for value in values))

    def _read(self, item: Json) -> Res:
        if "error" in item:
            # A worker may fail the item, but not stop the run.
            raise error_from_json(item, self._items.error, family=ServiceError)
        return self._items.read_result(item)


class RemoteRenderer(RemoteModel[RenderRequest, Image]):
    """A renderer on workers. See `Renderer`."""

    def __init__(self, pool: WorkerPool, images: Images) -> None:
        super().__init__(pool, RenderItems(images))

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """See `Renderer.render`."""
        return await self._call(requests)


class RemoteScorer(RemoteModel[ScoreRequest, Score]):
    """A scorer on workers. See `Scorer`."""

    def __init__(self, pool: WorkerPool, images: Images) -> None:
        super().__init__(pool, ScoreItems(images))

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """See `Scorer.score`."""
        return await self._call(requests)


def answered(answer: Any, count: int, error: type[ServiceError]) -> list[Json]:
    """The items of a worker's answer. Raises `error` unless there are `count` objects."""
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != count:
        raise error("the worker's answer does not hold an item for each item that was sent")
    if not all(isinstance(item, dict) for item in items):
        raise error("the worker's answer holds items that are no objects")
    return items
