"""Images for pages: original files, and small copies made on demand."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bigpe.services.core.errors import StoreError
from bigpe.services.store.blobs import BlobStore

SIDES = (96, 256, 512)
"""Sides of small copies, pixels. Other sizes are refused, to limit the work of a request."""
LARGEST = 64_000_000
"""Most pixels of an image that is opened."""
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""An image never changes, because its name is the digest of its content."""


class Thumbnails:
    """Serves the run's images by digest."""

    def __init__(self, folder: Path) -> None:
        self._blobs = BlobStore(folder)

    async def whole(self, request: Request) -> Response:
        """The PNG file."""
        data = await asyncio.to_thread(self._read, request.path_params["digest"])
        return Response(data, media_type="image/png", headers=FOREVER)

    async def small(self, request: Request) -> Response:
        """A copy whose longer side is one of `SIDES`."""
        side = request.path_params["side"]
        if side not in SIDES:
            raise HTTPException(404, f"there are small pictures of {SIDES} pixels only")
        data = await asyncio.to_thread(self._read, request.path_params["digest"])
        small = await asyncio.to_thread(shrunk, data, side)
        return Response(small, media_type="image/webp", headers=FOREVER)

    def _read(self, digest: str) -> bytes:
        try:
            return self._blobs.read(digest)
        except StoreError as error:
            raise HTTPException(404, str(error)) from error


def shrunk(png: bytes, side: int) -> bytes:
    """A WebP copy of an image that fits `side` x `side` pixels; it is never enlarged."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        if picture.width * picture.height > LARGEST:
            raise StoreError(f"a picture of {picture.width} x {picture.height} pixels is too large")
        copy = picture.convert("RGB")
    copy.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    copy.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
