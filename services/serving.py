"""A worker's side of bigpe's own protocol: a renderer or scorer that serves runs elsewhere.

Requests and answers are JSON; pictures travel inside them as base64 PNG and are named by the
digest of their bytes at both ends. What was painted or scored a moment ago is remembered, so that
a caller who lost the answer does not make it be paid again.

    render  {"items": [{"prompt", "seed"}]}  ->  {"items": [{"png", "truncated_tokens"}, ...]}
    score   {"items": [{"prompt", "png"}]}   ->  {"items": [Score's fields, ...]}

An item that failed is {"error", "kind"} instead; every answer carries the model's "fingerprint".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from bigpe.services import errors
from bigpe.services.blobs import BlobStore
from bigpe.services.effects import RecentMemo
from bigpe.services.errors import STOPS_RUN, BigpeError, DataError, ServiceError
from bigpe.services.pictures import decode
from bigpe.services.render import RenderConfig, Renderer, RenderService
from bigpe.services.score import ScoreConfig, Scorer, ScoreService
from bigpe.services.values import Json, RenderRequest, ScoreRequest

MOST_ITEMS = 256
"""Of one request."""
RECENT = 1024
"""Pictures and results that a worker keeps, for callers who ask again."""


class End(Protocol):
    """What a worker serves."""

    @property
    def kind(self) -> str:
        """ "render" or "score": what it answers."""
        ...

    async def open(self) -> str:
        """Load the model; returns its fingerprint."""
        ...

    async def handle(self, payload: Json) -> Json:
        """Answer one request; DataError for one that is malformed."""
        ...

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


class RecentBlobs:
    """A folder of pictures in which only the last ones used stay."""

    def __init__(self, folder: Path, limit: int = RECENT) -> None:
        """`limit`: more than are ever in use at a time."""
        self.store = BlobStore(folder)
        self._limit = limit
        self._order: OrderedDict[str, None] = OrderedDict()

    def put(self, png: bytes) -> str:
        """Keep a picture; returns its digest."""
        name = self.store.put(png)
        self.touch(name)
        return name

    def touch(self, name: str) -> None:
        """Note a use; the picture unused for longest goes."""
        self._order[name] = None
        self._order.move_to_end(name)
        while len(self._order) > self._limit:
            oldest, _ = self._order.popitem(last=False)
            self.store.path(oldest).unlink(missing_ok=True)


class RenderEnd:
    """Serves a renderer."""

    kind = "render"

    def __init__(self, renderer: Renderer, blobs: RecentBlobs, config: RenderConfig) -> None:
        self._renderer = renderer
        self._blobs = blobs
        self._service = RenderService(renderer, RecentMemo(RECENT), blobs.store, config)

    @property
    def waiting(self) -> int:
        """See `End.waiting`."""
        return self._service.queue.depth

    async def open(self) -> str:
        """See `End.open`."""
        return await self._renderer.open()

    async def handle(self, payload: Json) -> Json:
        """See `End.handle`."""
        wanted = [_request(RenderRequest, item) for item in _items(payload)]
        items = await asyncio.gather(*(_told(self._paint(request)) for request in wanted))
        return {"fingerprint": await self.open(), "items": items}

    async def close(self) -> None:
        """See `End.close`."""
        await self._service.close()
        await self._renderer.close()

    async def _paint(self, request: RenderRequest) -> Json:
        image = await self._service.render(request)
        self._blobs.touch(image.digest)
        png = await asyncio.to_thread(self._blobs.store.read, image.digest)
        return {"png": base64.b64encode(png).decode(), "truncated_tokens": image.truncated_tokens}


class ScoreEnd:
    """Serves a scorer."""

    kind = "score"

    def __init__(self, scorer: Scorer, blobs: RecentBlobs, config: ScoreConfig) -> None:
        self._scorer = scorer
        self._blobs = blobs
        self._service = ScoreService(scorer, RecentMemo(RECENT), config)

    @property
    def waiting(self) -> int:
        """See `End.waiting`."""
        return self._service.queue.depth

    async def open(self) -> str:
        """See `End.open`."""
        return await self._scorer.open()

    async def handle(self, payload: Json) -> Json:
        """See `End.handle`."""
        items = _items(payload)
        scored = await asyncio.gather(*(_told(self._score(item)) for item in items))
        return {"fingerprint": await self.open(), "items": scored}

    async def close(self) -> None:
        """See `End.close`."""
        await self._service.close()
        await self._scorer.close()

    async def _score(self, item: Json) -> Json:
        png = from_wire(item.get("png"))
        await asyncio.to_thread(decode, png, "the picture", formats=("PNG",))
        name = await asyncio.to_thread(self._blobs.put, png)
        request = _request(ScoreRequest, {"image": name, "prompt": item.get("prompt")})
        return (await self._service.score(request)).model_dump(mode="json")


def from_wire(text: Any) -> bytes:
    """The bytes of a base64 text; DataError for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise DataError('"png" must be the base64 text of a PNG file') from error


def failure_of(item: Json, default: type[ServiceError]) -> BigpeError | None:
    """The failure that an answered item tells, as the class it had at the worker; None if none."""
    if "error" not in item:
        return None
    kind: Any = getattr(errors, str(item.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, ServiceError)):
        kind = default
    try:
        return kind(str(item["error"]))
    except TypeError:  # a class that wants more than a message
        return default(str(item["error"]))


async def _told(work: Awaitable[Json]) -> Json:
    """The item's answer. Its failure is its own; a full disk, say, is the worker's."""
    try:
        return await work
    except STOPS_RUN:
        raise
    except BigpeError as error:
        return {"error": str(error), "kind": type(error).__name__}


def _items(payload: Json) -> Sequence[Json]:
    items = payload.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError('"items" must be a list of objects')
    if not 0 < len(items) <= MOST_ITEMS:
        raise DataError(f'"items" must hold 1 to {MOST_ITEMS} objects, got {len(items)}')
    return items


def _request(kind: Any, item: Json) -> Any:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise DataError(f"an item is wrong: {told}") from error
