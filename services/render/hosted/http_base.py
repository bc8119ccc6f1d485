"""The base of renderers that are HTTP services."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from bigpe.services.core.errors import BigpeError, ConfigError, ModerationError, RenderError
from bigpe.services.core.http_client import HttpClient, bearer, read_key
from bigpe.services.core.image_decoding import served_png
from bigpe.services.core.outages.access import ServiceAccess
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Image, Json, RenderRequest, digest
from bigpe.services.render.config import RenderConfig
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
    "width",
    "height",
    "call",
    "negative_prompt",
    "scheduler",
    "timestep_spacing",
    "vae",
    "base",
    "transformer",
    "lora",
    "quantization",
    "offload",
    "compile",
    "attention_slicing",
    "vae_slicing",
    "vae_tiling",
)
"""Settings that affect images. A changed setting that the service cannot use is refused."""


class ImageApi(Protocol):
    """The API of one kind of service."""

    @property
    def uses(self) -> Collection[str]:
        """The `SETTINGS` that it uses."""
        ...

    async def identity(self) -> Json:
        """Everything that identifies the service's model, or the address if that is unknown."""
        ...

    async def render(self, request: RenderRequest) -> bytes:
        """The bytes of the image, unchecked. Raises RenderError or TransientServiceError."""
        ...


class Connection(Protocol):
    """The client of a service, or all that it has opened."""

    @property
    def url(self) -> str:
        """The service's address."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


MODERATED = re.compile(
    r"moderation_blocked|content_policy|content_filter|safety system|moderated|nsfw"
    r"|prohibited[ _]content|flagged as|inappropriate content",
    re.IGNORECASE,
)
"""Words by which services refuse a prompt or a picture for its content."""


class HttpRenderer:
    """A renderer behind an ImageApi. Each request fails separately."""

    def __init__(
        self,
        api: ImageApi,
        client: Connection,
        config: RenderConfig,
        blobs: BlobStore,
        watch: OutageWatch | None = None,
    ) -> None:
        """Raises ConfigError for a changed setting that the service cannot use.

        `watch`: how outages are waited for; None: not at all.
        """
        refuse_unused(config, api.uses)
        self._takes_negative = "negative_prompt" in api.uses
        self.parallelism = config.http.concurrency
        self._api = api
        self._client = client
        self._config = config
        self._blobs = blobs
        self._access = ServiceAccess(f"the renderer {client.url}", config.http.concurrency, watch)
        self._opening = asyncio.Lock()
        self._fingerprint = ""

    async def open(self) -> str:
        """See `Renderer.open`: a digest of the settings and of the API's identity."""
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
        if request.negative and not self._takes_negative:
            return RenderError(f"{self._client.url} takes no negative prompt")
        try:
            key = f"{request.seed}/{request.prompt}"
            data = await self._access.call(lambda: self._api.render(request), request.priority, key)
            return await asyncio.to_thread(self._keep, data)
        except BigpeError as error:
            refused = type(error) is RenderError and MODERATED.search(str(error))
            return ModerationError(str(error)) if refused else error

    def _keep(self, data: bytes) -> Image:
        name = f"the picture of {self._client.url}"
        png, width, height = served_png(data, name, size=self._config.dimensions)
        return Image(digest=self._blobs.put(png), width=width, height=height)


def refuse_unused(config: RenderConfig, uses: Collection[str]) -> None:
    """Raise ConfigError if a setting without effect differs from its default."""
    plain = RenderConfig()
    for key in SETTINGS:
        if key not in uses and getattr(config, key) != getattr(plain, key):
            raise ConfigError(
                f'[render] {key} has no effect with backend = "{config.backend}"; take it out'
            )


def one_url(config: RenderConfig, default: str = "") -> str:
    """The address of a service with one address. Raises ConfigError without one."""
    urls = config.http.urls or ((default,) if default else ())
    if len(urls) != 1:
        raise ConfigError(
            f'[render.http] urls: backend = "{config.backend}" needs one address, got {len(urls)}'
        )
    return urls[0]


def client_for(
    config: RenderConfig, *, default: str = "", headers: Mapping[str, str] | None = None
) -> HttpClient:
    """A client of the service's address, with its key as a bearer token unless `headers` is given.

    ConfigError without an address or a key.
    """
    return HttpClient(
        one_url(config, default),
        config.http,
        timeout_s=config.call_timeout_s,
        error=RenderError,
        headers=bearer(read_key(config.http)) if headers is None else headers,
    )


def from_base64(text: Any, where: str) -> bytes:
    """The bytes of a base64 text or data URL. Raises RenderError for anything else."""
    if not isinstance(text, str):
        raise RenderError(f"{where} has answered with no picture")
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RenderError(f"{where} has answered with something else than base64") from error


def value_at(answer: Any, *path: str | int) -> Any:
    """The value at `path` in a JSON answer; None if there is none."""
    found = answer
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return found
