"""Renderer and scorer on bigpe's own workers, wherever those are: see `serving` for what they say.

A picture is kept under the digest of the bytes that came, so a worker cannot send one under the
name of another; it must be a PNG of sane size, and is kept byte for byte, as the worker made it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from bigpe.services.blobs import BlobStore
from bigpe.services.errors import BigpeError, RenderError, ScoreError, ServiceError
from bigpe.services.pictures import decode
from bigpe.services.serving import failure_of, from_wire
from bigpe.services.values import Image, Json, RenderRequest, Score, ScoreRequest


class Pool(Protocol):
    """Some workers of one kind and one fingerprint."""

    lanes: int
    """Batches that they take at a time, all together."""

    async def open(self) -> str:
        """Reach or start the workers; returns their fingerprint. ConfigError when they differ."""
        ...

    async def call(self, payload: Json) -> Json:
        """One worker's answer. TransientServiceError when none could give it."""
        ...

    async def close(self) -> None:
        """Let the workers go."""
        ...


class RemoteRenderer:
    """See `Renderer`."""

    def __init__(self, pool: Pool, blobs: BlobStore) -> None:
        self.lanes = pool.lanes
        self._pool = pool
        self._blobs = blobs

    async def open(self) -> str:
        """See `Renderer.open`: the workers' own fingerprint, wherever they are."""
        return await self._pool.open()

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """See `Renderer.render`."""
        wanted = [{"prompt": request.prompt, "seed": request.seed} for request in requests]
        answers = answered(await self._pool.call({"items": wanted}), len(wanted), RenderError)
        return await asyncio.gather(*(asyncio.to_thread(self._keep, item) for item in answers))

    async def close(self) -> None:
        """Let the workers go."""
        await self._pool.close()

    def _keep(self, item: Json) -> Image | Exception:
        if (failure := failure_of(item, RenderError)) is not None:
            return failure
        try:
            png = from_wire(item.get("png"))
            shown = decode(png, "the worker's picture", formats=("PNG",), error=RenderError)
            image = Image(
                digest=hashlib.sha256(png).hexdigest(),
                width=shown.width,
                height=shown.height,
                truncated_tokens=item.get("truncated_tokens", {}),
            )
            self._blobs.put(png)
            return image
        except ValidationError as error:
            return RenderError(f"the worker's answer is malformed: {error.error_count()} faults")
        except BigpeError as error:
            return error


class RemoteScorer:
    """See `Scorer`."""

    def __init__(self, pool: Pool, blobs: BlobStore) -> None:
        self.lanes = pool.lanes
        self._pool = pool
        self._blobs = blobs

    async def open(self) -> str:
        """See `Scorer.open`: the workers' own fingerprint, wherever they are."""
        return await self._pool.open()

    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        """See `Scorer.score`."""
        read = [asyncio.to_thread(self._item, request) for request in requests]
        items = await asyncio.gather(*read)
        wanted = [item for item in items if not isinstance(item, Exception)]
        told = iter(
            answered(await self._pool.call({"items": wanted}), len(wanted), ScoreError)
            if wanted
            else ()
        )
        return [item if isinstance(item, Exception) else _score(next(told)) for item in items]

    async def close(self) -> None:
        """Let the workers go."""
        await self._pool.close()

    def _item(self, request: ScoreRequest) -> Json | BigpeError:
        try:
            png = self._blobs.read(request.image)
        except BigpeError as error:
            return ScoreError(str(error))
        return {"prompt": request.prompt, "png": base64.b64encode(png).decode()}


def _score(item: Json) -> Score | Exception:
    if (failure := failure_of(item, ScoreError)) is not None:
        return failure
    try:
        return Score.model_validate(item)
    except ValidationError as error:
        return ScoreError(f"the worker's answer is malformed: {error.error_count()} faults")


def answered(answer: Any, count: int, error: type[ServiceError]) -> list[Json]:
    """The items of a worker's answer; `error` unless there is one for each that was sent."""
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != count:
        raise error("the worker's answer does not hold an item for each that was sent")
    if not all(isinstance(item, dict) for item in items):
        raise error("the worker's answer holds items that are no objects")
    return items
