"""Services that take a picture as a job: one engine for all, each service a `JobApi`.

A job is submitted, looked up until its state says that it has ended, and its picture is read from
the answer or from an address. A service that answers at once is a job without a look-up.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from bigpe.services.core.errors import (
    ConfigError,
    ModerationError,
    RenderError,
    TransientServiceError,
)
from bigpe.services.core.http_client import HttpClient, read_key
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Json, RenderRequest, digest
from bigpe.services.render.config import JobApi, RenderConfig
from bigpe.services.render.hosted.addresses import Addresses
from bigpe.services.render.hosted.http_base import HttpRenderer, from_base64, one_url, value_at
from bigpe.services.render.hosted.placeholders import filled, merged, placeholders_in
from bigpe.services.store.blobs import BlobStore

FIRST_LOOK_S = 0.2
LONGEST_LOOK_S = 3.0
"""Longest interval between two look-ups of a job, seconds; the first is shorter."""
SETTINGS = ("model", "steps", "guidance", "negative_prompt")
"""Settings of `[render]` that are placeholders of their own names."""


class JobRenderer:
    """See `ImageApi`."""

    def __init__(self, api: JobApi, addresses: Addresses, config: RenderConfig) -> None:
        """Raises ConfigError for a service that is not described whole."""
        named = placeholders_in([api.submit, api.body])
        if "prompt" not in named:
            raise ConfigError('[render.http.job] body has no "{prompt}"; put it where it belongs')
        plain = RenderConfig()
        if "model" in named and config.model == plain.model:
            raise ConfigError(f'[render] model: backend = "{config.backend}" needs a model\'s name')
        sized = {"size", "width", "height"} if named & {"width", "height", "size"} else set[str]()
        self.uses = tuple(sorted((named & set(SETTINGS)) | sized))
        self._api = api
        self._addresses = addresses
        self._config = config
        numbers = ("steps", "guidance")
        self._omitted = {key for key in numbers if getattr(config, key) == getattr(plain, key)}

    async def identity(self) -> Json:
        """The address and the description: services do not identify what is behind a name."""
        return {"url": self._addresses.url, "job": digest(self._api.model_dump(mode="json"))}

    async def render(self, request: RenderRequest) -> bytes:
        """See `ImageApi.render`. Raises ModerationError where the service refuses the content."""
        values = self._values(request)
        path = {key: quote(str(value), safe="/:@") for key, value in values.items()}
        body = merged(self._config.http.extra, filled(self._api.body, values))
        answer = await self._addresses.service.post_json(filled(self._api.submit, path), body)
        try:
            async with asyncio.timeout(self._config.call_timeout_s):
                return await self._picture(await self._ended(answer))
        except TimeoutError as error:
            seconds = self._config.call_timeout_s
            text = f"{self._addresses.url}: no picture in {seconds:g} s"
            raise TransientServiceError(text) from error

    def _values(self, request: RenderRequest) -> dict[str, Any]:
        """Values of the placeholders. What is not set is left out: services have their own."""
        config = self._config
        values: dict[str, Any] = {
            "prompt": request.prompt,
            "seed": request.seed % self._api.seeds,
            "model": config.model,
            "negative_prompt": request.negative or config.negative_prompt,
        }
        values |= {
            name: None if name in self._omitted else getattr(config, name)
            for name in ("steps", "guidance")
        }
        width, height = config.dimensions or (None, None)
        size = f"{width}x{height}" if width else None
        return values | {"width": width, "height": height, "size": size}

    async def _ended(self, answer: Any) -> Any:
        """The answer of a job that has ended well."""
        submitted, pause = answer, FIRST_LOOK_S
        look_up = self._look_up(answer)
        while not self._is_done(answer):
            if look_up is None:
                raise RenderError(f"{self._addresses.url}: {self._api.look_up!r} is not there")
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, LONGEST_LOOK_S)
            try:
                answer = await self._addresses.get_json(look_up)
            except TransientServiceError:
                continue  # the picture may be made meanwhile; another one would be paid again
        if not self._api.result:
            return answer
        return await self._addresses.get_json(str(_at(submitted, self._api.result)))

    def _look_up(self, answer: Any) -> str | None:
        """Where the job is looked up: an address in the answer, or a path with its id."""
        api = self._api
        if "{id}" not in api.look_up:
            return _at(answer, api.look_up) if api.look_up else None
        found = _at(answer, api.id)
        return api.look_up.replace("{id}", quote(str(found), safe="")) if found else None

    def _is_done(self, answer: Any) -> bool:
        """Whether a job has ended well. Raises if it has failed or was refused."""
        api = self._api
        for path, values in api.refused.items():
            if (found := _at(answer, path)) in values:
                raise ModerationError(
                    f"{self._addresses.url} refuses the content ({path} is {found})"
                )
        if not api.state:
            return True
        state = _at(answer, api.state)
        if state in api.failed:
            why = str(_at(answer, api.error) or state)[:300]
            raise RenderError(f"{self._addresses.url}: the job has failed: {why}")
        return state in api.done

    async def _picture(self, answer: Any) -> bytes:
        self._is_done(answer)  # what was refused may show in the result alone
        found = next((at for path in self._api.picture if (at := _at(answer, path))), None)
        if isinstance(found, str) and found.startswith(("http://", "https://")):
            return await self._addresses.get_picture(found)
        return from_base64(found, self._addresses.url)


def _at(answer: Any, path: str) -> Any:
    """The value at a path with dots, such as "images.0.url"; None if there is none."""
    steps = [int(step) if step.isdigit() else step for step in path.split(".") if step]
    return value_at(answer, *steps) if steps else None


def open_jobs(
    config: RenderConfig, api: JobApi, blobs: BlobStore, watch: OutageWatch | None = None
) -> HttpRenderer:
    """The renderer of a described service. Raises ConfigError with the missing setting."""
    headers = {name: _with_key(text, config) for name, text in api.headers.items()}
    client = HttpClient(
        one_url(config, api.url),
        config.http,
        timeout_s=config.call_timeout_s,
        error=RenderError,
        headers=headers,
    )
    addresses = Addresses(client, config, headers, api.hosts)
    return HttpRenderer(JobRenderer(api, addresses, config), addresses, config, blobs, watch)


def _with_key(text: str, config: RenderConfig) -> str:
    if "{key}" not in text:
        return text
    key = read_key(config.http)
    if key is None:
        raise ConfigError(
            f'[render.http] api_key_env: backend = "{config.backend}" needs a key; name the '
            "environment variable that holds it"
        )
    return text.replace("{key}", key)


def described(config: RenderConfig) -> JobApi:
    """`[render.http.job]`. Raises ConfigError if it is missing."""
    if config.http.job is None:
        raise ConfigError('[render.http.job]: backend = "jobs" needs the service\'s description')
    return config.http.job
