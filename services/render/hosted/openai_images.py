"""`[render] backend = "openai-images"`: any server with OpenAI's `POST /images/generations`.

The API has no seed, so a naive prompt and its rewrite do not share their noise: gains are unbiased,
but noisier. Many compatible servers accept a seed; `send_seed = true` sends it.
"""

from __future__ import annotations

from bigpe.services.core.errors import ConfigError, RenderError
from bigpe.services.core.http_client import HttpClient
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Json, RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.hosted.http_base import HttpRenderer, client_for, from_base64, value_at
from bigpe.services.store.blobs import BlobStore

OPENAI = "https://api.openai.com/v1"


class OpenAiImages:
    """See `ImageApi`."""

    uses = ("model", "size")

    def __init__(self, client: HttpClient, config: RenderConfig) -> None:
        if config.model == RenderConfig().model:
            raise ConfigError('[render] model: backend = "openai-images" needs a model\'s name')
        self._client = client
        self._config = config

    async def identity(self) -> Json:
        """The address: the API does not identify the model behind a name."""
        return {"url": self._client.url}

    async def render(self, request: RenderRequest) -> bytes:
        """See `ImageApi.render`."""
        config = self._config
        size = {} if config.size is None else {"size": f"{config.size}x{config.size}"}
        seed = {"seed": request.seed} if config.http.send_seed else {}
        body = {"model": config.model, "prompt": request.prompt, "n": 1, **size, **seed}
        answer = await self._client.post_json("/images/generations", config.http.extra | body)
        picture = value_at(answer, "data", 0, "b64_json")
        if picture is None and value_at(answer, "data", 0, "url"):
            # A URL that the server chooses is not fetched: it may be in the local network.
            raise RenderError(
                f"{self._client.url} has answered with an address in place of a picture; set "
                '[render.http.extra] response_format = "b64_json"'
            )
        return from_base64(picture, self._client.url)


def open_openai_images(
    config: RenderConfig, blobs: BlobStore, watch: OutageWatch | None = None
) -> HttpRenderer:
    """The renderer. Raises ConfigError with the missing setting."""
    client = client_for(config, default=OPENAI)
    return HttpRenderer(OpenAiImages(client, config), client, config, blobs, watch)
