"""`[render] backend = "openai-images"`: any server with OpenAI's `POST /images/generations`.

The API has no seed, so a naive prompt and its rewrite do not share their noise: gains are unbiased,
but noisier. Many compatible servers accept a seed; `send_seed = true` sends it.
"""

from __future__ import annotations

import re

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Json, RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.hosted.addresses import Addresses
from bigpe.services.render.hosted.http_base import HttpRenderer, client_for, from_base64, value_at
from bigpe.services.store.blobs import BlobStore

OPENAI = "https://api.openai.com/v1"


WITH_FORMAT = re.compile(r"dall-e")
"""Models that answer with an address unless `response_format` asks for base64. The gpt-image family
refuses that field."""
SIZES: dict[str, tuple[str, ...]] = {
    "gpt-image-1": ("1024x1024", "1536x1024", "1024x1536"),
    "dall-e-3": ("1024x1024", "1792x1024", "1024x1792"),
    "dall-e-2": ("256x256", "512x512", "1024x1024"),
}
"""Sizes that OpenAI's own server takes, by the beginning of the model's name."""


class OpenAiImages:
    """See `ImageApi`."""

    uses = ("model", "size", "width", "height")

    def __init__(self, addresses: Addresses, config: RenderConfig) -> None:
        if config.model == RenderConfig().model:
            raise ConfigError('[render] model: backend = "openai-images" needs a model\'s name')
        self._addresses = addresses
        self._config = config
        width, height = config.dimensions or (None, None)
        self._size = {"size": f"{width}x{height}"} if width else {}
        taken = next((SIZES[name] for name in SIZES if config.model.startswith(name)), ())
        if addresses.url == OPENAI and width and taken and self._size["size"] not in taken:
            raise ConfigError(f"[render] width and height: {config.model} takes {', '.join(taken)}")

    async def identity(self) -> Json:
        """The address: the API does not identify the model behind a name."""
        return {"url": self._addresses.url}

    async def render(self, request: RenderRequest) -> bytes:
        """See `ImageApi.render`."""
        config = self._config
        seed = {"seed": request.seed} if config.http.send_seed else {}
        form = {"response_format": "b64_json"} if WITH_FORMAT.match(config.model) else {}
        body = {"model": config.model, "prompt": request.prompt, "n": 1, **self._size, **seed}
        answer = await self._addresses.service.post_json(
            "/images/generations", form | config.http.extra | body
        )
        picture = value_at(answer, "data", 0, "b64_json")
        address = value_at(answer, "data", 0, "url")
        if picture is None and isinstance(address, str) and not address.startswith("data:"):
            return await self._addresses.get_picture(address)
        return from_base64(picture or address, self._addresses.url)


def open_openai_images(
    config: RenderConfig, blobs: BlobStore, watch: OutageWatch | None = None
) -> HttpRenderer:
    """The renderer. Raises ConfigError with the missing setting."""
    addresses = Addresses(client_for(config, default=OPENAI), config)
    return HttpRenderer(OpenAiImages(addresses, config), addresses, config, blobs, watch)
