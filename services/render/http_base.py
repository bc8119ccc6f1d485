"""Renderers that are HTTP services: what their APIs share."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from bigpe.services.core.errors import BigpeError, ConfigError, RenderError
from bigpe.services.core.http_client import HttpClient
from bigpe.services.core.image_decoding import served_png
from bigpe.services.core.values import Image, Json, RenderRequest, digest
from bigpe.services.render.service import RenderConfig
from bigpe.services.store.blobs import BlobStore

SETTINGS = (
    "model",
    "revision",
    "variant",
    "device",
    "dtype",
    "steps",
    "guidance",
    "size",
    "negative_prompt",
    "scheduler",
    "timestep_spacing",
    "vae",
)
"""Those that a picture depends on, so that one which a service has no place for is refused."""


class ImageApi(Protocol):
    """How one kind of service is spoken to."""

    @property
    def uses(self) -> Collection[str]:
        """Which of `SETTINGS` it heeds."""
        ...

    async def identity(self) -> Json:
        """All that tells what a picture depends on; the address, where the service tells little."""
        ...

    async def render(self, request: RenderRequest) -> bytes:
        """The picture's file, unchecked. RenderError; TransientServiceError."""
        ...


class HttpRenderer:
    """A renderer behind a picture API. Its requests are independent: one fails alone."""

    def __init__(
        self, api: ImageApi, client: HttpClient, config: RenderConfig, blobs: BlobStore
    ) -> None:
        """ConfigError for a setting that the service has no place for."""
        refuse_unused(config, api.uses)
        self.parallelism = config.http.concurrency
        self._api = api
        self._client = client
        self._config = config
        self._blobs = blobs
        self._slots = asyncio.Semaphore(config.http.concurrency)
        self._opening = asyncio.Lock()
        self._fingerprint = ""

    async def open(self) -> str:
        """See `Renderer.open`: a digest of the settings and of what the service tells."""
        async with self._opening:
            if not self._fingerprint:
                settings = {key: getattr(self._config, key) for key in self._api.uses}
                self._fingerprint = digest(
                    {
                        "backend": self._config.backend,
                        "extra": self._config.http.extra,
                        "send_seed": self._config.http.send_seed,
                        "settings": settings,
                        "service": await self._api.identity(),
                    }
                )
        return self._fingerprint

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """See `Renderer.render`."""
        return await asyncio.gather(*(self._one(request) for request in requests))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _one(self, request: RenderRequest) -> Image | Exception:
        try:
            async with self._slots:
                data = await self._api.render(request)
            return await asyncio.to_thread(self._keep, data)
        except BigpeError as error:
            return error

    def _keep(self, data: bytes) -> Image:
        name = f"the picture of {self._client.url}"
        png, width, height = served_png(data, name, size=self._config.size)
        return Image(digest=self._blobs.put(png), width=width, height=height)


def refuse_unused(config: RenderConfig, uses: Collection[str]) -> None:
    """ConfigError when a setting that would have no effect was changed from its default."""
    plain = RenderConfig()
    for key in SETTINGS:
        if key not in uses and getattr(config, key) != getattr(plain, key):
            raise ConfigError(
                f'[render] {key} has no effect with backend = "{config.backend}"; take it out'
            )


def one_url(config: RenderConfig, default: str = "") -> str:
    """The address of a service that has one; ConfigError without it."""
    urls = config.http.urls or ((default,) if default else ())
    if len(urls) != 1:
        raise ConfigError(
            f'[render.http] urls: backend = "{config.backend}" needs one address, got {len(urls)}'
        )
    return urls[0]


def from_base64(text: Any, where: str) -> bytes:
    """The bytes of a base64 text, which may be a data URL; RenderError for anything else."""
    if not isinstance(text, str):
        raise RenderError(f"{where} has answered with no picture")
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RenderError(f"{where} has answered with something else than base64") from error


def value_at(answer: Any, *path: str | int) -> Any:
    """What lies at `path` in a JSON answer; None when it has another shape."""
    found = answer
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return found
