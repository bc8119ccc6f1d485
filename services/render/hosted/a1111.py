"""`[render] backend = "a1111"`: AUTOMATIC1111's web UI (started with --api), and compatible
servers.

Its prompts have a syntax: (round) and [square] brackets weigh words, <lora:NAME> loads a LoRA.
Rewrites are sent unchanged.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from bigpe.services.core.errors import ConfigError, RenderError
from bigpe.services.core.http_client import HttpClient, read_key
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Json, RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.hosted.http_base import HttpRenderer, client_for, from_base64, value_at
from bigpe.services.store.blobs import BlobStore

IMAGE_OPTIONS = (
    "sd_model_checkpoint",
    "sd_checkpoint_hash",
    "sd_vae",
    "CLIP_stop_at_last_layers",
    "eta_noise_seed_delta",
    "randn_source",
)
"""Options of the server that affect every image."""


class A1111:
    """See `ImageApi`."""

    uses = ("model", "steps", "guidance", "size", "width", "height", "negative_prompt")

    def __init__(self, client: HttpClient, config: RenderConfig) -> None:
        self._client = client
        self._config = config
        named = config.model != RenderConfig().model
        self._checkpoint = config.model if named else None
        self._model_hash = ""

    async def identity(self) -> Json:
        """The checkpoint and the options that affect every image."""
        options = await self._options()
        await self._require_checkpoint()
        options_used = {key: value_at(options, key) for key in IMAGE_OPTIONS}
        if self._checkpoint is not None:
            options_used["sd_model_checkpoint"] = self._checkpoint
            options_used["sd_checkpoint_hash"] = None
        return options_used

    async def _options(self) -> Any:
        try:
            options = await self._client.get_json("/sdapi/v1/options")
        except RenderError as error:
            if "HTTP 404" not in str(error):
                raise
            options = None
        if value_at(options, "sd_model_checkpoint") is None:
            raise ConfigError(
                f"{self._client.url} does not answer as AUTOMATIC1111 does; start it with --api"
            )
        return options

    async def _require_checkpoint(self) -> None:
        """Raise ConfigError for a checkpoint that the server lacks: it would fail each picture."""
        if self._checkpoint is None:
            return
        try:
            models = await self._client.get_json("/sdapi/v1/sd-models")
        except RenderError:
            return  # imitations may have no list
        names = {str(value_at(m, key)) for m in models for key in ("title", "model_name", "hash")}
        names |= {re.sub(r" \[\w+\]$", "", name) for name in names}
        if names and self._checkpoint.removesuffix(".safetensors") not in {
            name.removesuffix(".safetensors") for name in names
        }:
            present = ", ".join(sorted(str(value_at(m, "model_name")) for m in models)[:20])
            raise ConfigError(
                f"[render] model = {self._checkpoint!r}: {self._client.url} has only {present}"
            )

    async def render(self, request: RenderRequest) -> bytes:
        """See `ImageApi.render`. Raises ConfigError if the server's checkpoint has changed."""
        answer = await self._client.post_json("/sdapi/v1/txt2img", self._body(request))
        self._check(answer, request)
        return from_base64(value_at(answer, "images", 0), self._client.url)

    def _body(self, request: RenderRequest) -> Json:
        config = self._config
        body: Json = {
            **config.http.extra,
            "prompt": request.prompt,
            "negative_prompt": request.negative or config.negative_prompt or "",
            "seed": request.seed,
            "steps": config.steps,
            "cfg_scale": config.guidance,
            "batch_size": 1,
            "n_iter": 1,
            "send_images": True,
        }
        if config.dimensions is not None:
            body["width"], body["height"] = config.dimensions
        if self._checkpoint is not None:
            checkpoint = {"sd_model_checkpoint": self._checkpoint}
            body["override_settings"] = config.http.extra.get("override_settings", {}) | checkpoint
            # Otherwise the server reloads its old checkpoint after every image.
            body["override_settings_restore_afterwards"] = False
        return body

    def _check(self, answer: Any, request: RenderRequest) -> None:
        """Check seed and weights: another user of the web UI may have changed the checkpoint."""
        try:
            info = json.loads(value_at(answer, "info") or "{}")
        except (TypeError, ValueError) as error:
            raise RenderError(f"{self._client.url}: its info is no JSON") from error
        seed = value_at(info, "seed")
        if seed is not None and seed != request.seed:
            raise RenderError(f"{self._client.url} took seed {seed} for {request.seed}")
        weights = str(value_at(info, "sd_model_hash") or "")
        self._model_hash = self._model_hash or weights
        if weights != self._model_hash:
            raise ConfigError(
                f"{self._client.url}: the checkpoint has changed from {self._model_hash} to "
                f"{weights}; restore it, then run `bigpe resume`, or name it in [render] model"
            )


def open_a1111(
    config: RenderConfig, blobs: BlobStore, watch: OutageWatch | None = None
) -> HttpRenderer:
    """The renderer. Raises ConfigError with the missing setting."""
    key = read_key(config.http)
    # --api-auth USER:PASSWORD is HTTP's basic scheme; a proxy needs a bearer token.
    basic = base64.b64encode((key or "").encode()).decode()
    headers = {"Authorization": f"Basic {basic}"} if key and ":" in key else None
    client = client_for(config, headers=headers)
    return HttpRenderer(A1111(client, config), client, config, blobs, watch)
