"""The items of requests and answers between a run and its workers, as JSON.

    render  {"prompt", "seed", "negative" if there is one}  ->  {"png", "truncated_tokens"}
    score   {"prompt", "png"}   ->  the fields of Score

An item that failed is {"error", "kind"} instead. Images travel as base64 PNG. Each side names them
by the digest of the bytes it received, so neither side can send an image under another's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import ValidationError

from bigpe.services.core.errors import BigpeError, DataError, RenderError, ScoreError, ServiceError
from bigpe.services.core.image_decoding import decode
from bigpe.services.core.values import Image, Json, RenderRequest, Score, ScoreRequest, Value

Req = TypeVar("Req")
Res = TypeVar("Res")
V = TypeVar("V", bound=Value)


class Images(Protocol):
    """Where a side keeps its images."""

    def put(self, png: bytes, /) -> str:
        """Store a PNG file; returns its digest."""
        ...

    def read(self, digest: str, /) -> bytes:
        """The PNG file's bytes."""
        ...


class ItemFormat(ABC, Generic[Req, Res]):
    """How requests and results of one kind travel. The methods may block: call them in a thread."""

    error: ClassVar[type[ServiceError]]
    """The class of failures that name no other class."""

    def __init__(self, images: Images) -> None:
        self._images = images

    @abstractmethod
    def write_request(self, request: Req) -> Json:
        """The item that the run sends."""

    @abstractmethod
    def read_request(self, item: Json) -> Req:
        """The request that a worker received. DataError for an item of another form."""

    @abstractmethod
    def write_result(self, result: Res) -> Json:
        """The item that the worker answers."""

    @abstractmethod
    def read_result(self, item: Json) -> Res:
        """The result that the run received; `error` or ValidationError for anything else."""


class RenderItems(ItemFormat[RenderRequest, Image]):
    """Prompts to a worker, images back."""

    error = RenderError

    def write_request(self, request: RenderRequest) -> Json:
        """See `ItemFormat.write_request`."""
        return request.content()

    def read_request(self, item: Json) -> RenderRequest:
        """See `ItemFormat.read_request`."""
        return _parse(RenderRequest, item)

    def write_result(self, result: Image) -> Json:
        """See `ItemFormat.write_result`."""
        png = base64.b64encode(self._images.read(result.digest)).decode()
        return {"png": png, "truncated_tokens": result.truncated_tokens}

    def read_result(self, item: Json) -> Image:
        """See `ItemFormat.read_result`."""
        # The PNG file is stored as the worker made it.
        png = _png(item)
        image = decode(png, "the worker's picture", formats=("PNG",), error=RenderError)
        result = Image(
            digest=hashlib.sha256(png).hexdigest(),
            width=image.width,
            height=image.height,
            truncated_tokens=item.get("truncated_tokens", {}),
        )
        self._images.put(png)
        return result


class ScoreItems(ItemFormat[ScoreRequest, Score]):
    """Images and prompts to a worker, scores back."""

    error = ScoreError

    def write_request(self, request: ScoreRequest) -> Json:
        """See `ItemFormat.write_request`."""
        try:
            png = self._images.read(request.image)
        except BigpeError as error:
            raise ScoreError(str(error)) from error
        return {"prompt": request.prompt, "png": base64.b64encode(png).decode()}

    def read_request(self, item: Json) -> ScoreRequest:
        """See `ItemFormat.read_request`."""
        png = _png(item)
        decode(png, "the picture", formats=("PNG",))
        image = self._images.put(png)
        return _parse(ScoreRequest, {"image": image, "prompt": item.get("prompt")})

    def write_result(self, result: Score) -> Json:
        """See `ItemFormat.write_result`."""
        return result.model_dump(mode="json")

    def read_result(self, item: Json) -> Score:
        """See `ItemFormat.read_result`."""
        return Score.model_validate(item)


def _png(item: Json) -> bytes:
    text: Any = item.get("png")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise DataError('"png" must be the base64 text of a PNG file') from error


def _parse(kind: type[V], item: Json) -> V:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        problems: list[Any] = error.errors(
            include_url=False, include_context=False, include_input=False
        )
        text = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
        raise DataError(f"an item is wrong: {text}") from error
