"""The worker's side of bigpe's own protocol: serves a renderer or a scorer to runs elsewhere.

    request  {"items": [...]}   ->   {"fingerprint": ..., "items": [...]}

`wire_format` describes the items. A worker remembers its recent results: a run that lost an answer
asks again, and nothing is computed twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from bigpe.services.core.errors import STOPS_RUN, BigpeError, DataError, ServiceError, error_to_json
from bigpe.services.core.values import (
    Image,
    Json,
    ModelRequest,
    RenderRequest,
    Score,
    ScoreRequest,
    Value,
)
from bigpe.services.processes.model_service import ModelService
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.service import Renderer, RenderService
from bigpe.services.score.service import ScoreConfig, Scorer, ScoreService
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache
from bigpe.services.workers.wire_format import ItemFormat, RenderItems, ScoreItems

MOST_ITEMS = 256
"""Items of one request."""
RECENT = 1024
"""Images and results that a worker keeps for repeated requests."""

Req = TypeVar("Req", bound=ModelRequest)
Res = TypeVar("Res", bound=Value)


class RecentBlobs:
    """A folder of images that keeps only the most recently used. Threads may share it."""

    def __init__(self, folder: Path, limit: int = RECENT) -> None:
        """`limit`: more than are ever in use at the same time."""
        self.store = BlobStore(folder)
        self._limit = limit
        self._order: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, png: bytes) -> str:
        """Store an image; returns its digest."""
        name = self.store.put(png)
        self.touch(name)
        return name

    def read(self, name: str) -> bytes:
        """The image of a digest, which counts as a use of it."""
        self.touch(name)
        return self.store.read(name)

    def touch(self, name: str) -> None:
        """Record a use, and delete the image whose last use is longest ago."""
        with self._lock:
            self._order[name] = None
            self._order.move_to_end(name)
            while len(self._order) > self._limit:
                oldest, _ = self._order.popitem(last=False)
                self.store.path(oldest).unlink(missing_ok=True)


class WorkerEndpoint(Generic[Req, Res]):
    """Serves one renderer or scorer: over HTTP (`bigpe serve`) or as a Ray actor."""

    def __init__(self, service: ModelService[Any, Req, Res], items: ItemFormat[Req, Res]) -> None:
        """The endpoint owns the service and its model: `close` ends both."""
        self._service = service
        self._items = items

    @property
    def kind(self) -> Literal["render", "score"]:
        """What it answers."""
        return self._service.kind

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return self._service.queue.depth

    async def open(self) -> str:
        """Load the model; returns its fingerprint."""
        return await self._service.open()

    async def handle(self, payload: Json) -> Json:
        """Answer one request. DataError if it is malformed: then no item is computed."""
        requests = await asyncio.gather(*(self._read(item) for item in _items_of(payload)))
        items = await asyncio.gather(*(self._answer(request) for request in requests))
        return {"fingerprint": await self.open(), "items": items}

    async def close(self) -> None:
        """Free the model."""
        await self._service.close()
        await self._service.backend.close()

    async def _read(self, item: Json) -> Req | ServiceError:
        try:
            return await asyncio.to_thread(self._items.read_request, item)
        except ServiceError as error:
            return error

    async def _answer(self, request: Req | ServiceError) -> Json:
        """The item's answer. A failure is the item's own, unless the worker cannot go on."""
        if isinstance(request, ServiceError):
            return error_to_json(request)
        try:
            result = await self._service.call(request)
            return await asyncio.to_thread(self._items.write_result, result)
        except STOPS_RUN:
            raise
        except BigpeError as error:
            return error_to_json(error)


def render_endpoint(
    renderer: Renderer, blobs: RecentBlobs, config: RenderConfig
) -> WorkerEndpoint[RenderRequest, Image]:
    """An endpoint that serves `renderer`, which stores its images in `blobs`."""
    service = RenderService(renderer, InMemoryCallCache(RECENT), blobs.store, config)
    return WorkerEndpoint(service, RenderItems(blobs))


def score_endpoint(
    scorer: Scorer, blobs: RecentBlobs, config: ScoreConfig
) -> WorkerEndpoint[ScoreRequest, Score]:
    """An endpoint that serves `scorer`, which reads its images from `blobs`."""
    service = ScoreService(scorer, InMemoryCallCache(RECENT), config)
    return WorkerEndpoint(service, ScoreItems(blobs))


def _items_of(payload: Json) -> Sequence[Json]:
    items = payload.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError('"items" must be a list of objects')
    if not 0 < len(items) <= MOST_ITEMS:
        raise DataError(f'"items" must hold 1 to {MOST_ITEMS} objects, got {len(items)}')
    return items
