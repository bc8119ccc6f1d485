"""`[render] backend = "comfyui"`: a ComfyUI server with the user's workflow.

ComfyUI exports the workflow with "Export (API)". It must contain the placeholders "{prompt}" and
"{seed}", and may contain "{negative_prompt}", "{steps}", "{guidance}", "{size}", "{width}" and
"{height}". A value that consists of a number's placeholder becomes a number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigpe.services.core.errors import BigpeError, ConfigError, RenderError, TransientServiceError
from bigpe.services.core.http_client import HttpClient
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import Json, RenderRequest, digest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.hosted.http_base import HttpRenderer, client_for, value_at
from bigpe.services.render.hosted.placeholders import filled, placeholders_in
from bigpe.services.store.blobs import BlobStore

SETTINGS = ("negative_prompt", "steps", "guidance", "size", "width", "height")
FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 2.0
"""Longest interval between two requests for an image's state, seconds; the first is shorter."""
LOOKS_PER_QUEUE = 5
"""Number of vain look-ups between two checks that the server still has the picture queued."""


class Workflow:
    """A workflow with placeholders."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that is no workflow or lacks a required placeholder."""
        where = f"[render.http] workflow = {str(path)!r}"
        try:
            graph = json.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{where} cannot be read as JSON: {error}") from error
        nodes = list(graph.values()) if isinstance(graph, dict) else []
        if not nodes or not all(isinstance(value_at(node, "class_type"), str) for node in nodes):
            raise ConfigError(
                f'{where} is no workflow in API format; in ComfyUI choose "Export (API)"'
            )
        self.graph: Json = graph
        found = placeholders_in(graph)
        for needed in ("prompt", "seed"):
            if needed not in found:
                raise ConfigError(
                    f'{where} has no "{{{needed}}}"; put it where the {needed} belongs'
                )
        self.uses = tuple(name for name in SETTINGS if name in found)

    def filled(self, values: Mapping[str, str | int | float]) -> Json:
        """The workflow with `values` for their placeholders. Values are not searched again."""
        made: Json = filled(self.graph, values)
        return made


class ComfyUi:
    """See `ImageApi`."""

    def __init__(self, client: HttpClient, config: RenderConfig, workflow: Workflow) -> None:
        self.uses = workflow.uses
        self._client = client
        self._config = config
        self._workflow = workflow

    async def identity(self) -> Json:
        """The workflow, the server's release and its address, which identifies named files."""
        stats = await self._client.get_json("/system_stats")
        if value_at(stats, "system") is None:
            raise ConfigError(f"{self._client.url} does not answer as ComfyUI does")
        return {
            "url": self._client.url,
            "workflow": digest(self._workflow.graph),
            "comfyui": value_at(stats, "system", "comfyui_version"),
            "pytorch": value_at(stats, "system", "pytorch_version"),
        }

    async def render(self, request: RenderRequest) -> bytes:
        """See `ImageApi.render`."""
        values: dict[str, str | int | float] = {"prompt": request.prompt, "seed": request.seed}
        for name in self.uses:
            values[name] = getattr(self._config, name) or ""
        if self._config.dimensions:
            values["width"], values["height"] = self._config.dimensions
        if request.negative:
            values["negative_prompt"] = request.negative
        answer = await self._client.post_json("/prompt", {"prompt": self._workflow.filled(values)})
        job = value_at(answer, "prompt_id")
        if not isinstance(job, str) or not re.fullmatch(r"[\w-]{1,100}", job):
            raise RenderError(f"{self._client.url} has taken the workflow but given no prompt_id")
        return await self._fetch(await self._wait(job))

    async def _wait(self, job: str) -> Json:
        """Wait for the history entry of the job."""
        timeout_s = self._config.call_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._look(job)
        except TimeoutError as error:
            await self._forget(job)
            message = f"{self._client.url}: no picture in {timeout_s:g} s"
            raise TransientServiceError(message) from error
        except asyncio.CancelledError:
            await self._forget(job)
            raise

    async def _look(self, job: str) -> Json:
        pause, looks, queued = FIRST_LOOK_S, 0, True
        while True:
            try:
                entry = value_at(await self._client.get_json(f"/history/{job}"), job)
            except TransientServiceError:
                entry = None  # the picture may be made meanwhile; another one would be paid again
            if isinstance(entry, dict):
                return entry
            if not queued:
                raise TransientServiceError(
                    f"{self._client.url} has lost the picture: was it started again?"
                )
            looks += 1
            if looks % LOOKS_PER_QUEUE == 0:
                # Read before the history: a job that leaves the queue is in the history by then.
                with contextlib.suppress(TransientServiceError):
                    queued = job in json.dumps(await self._client.get_json("/queue"))
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, LONGEST_LOOK_S)

    async def _forget(self, job: str) -> None:
        """Remove the job from the server's queue. A running job is left to end."""
        with contextlib.suppress(BigpeError):
            await self._client.post("/queue", {"delete": [job]})

    async def _fetch(self, entry: Json) -> bytes:
        if value_at(entry, "status", "status_str") == "error":
            raise RenderError(f"{self._client.url}: {_cause(entry)}")
        outputs = value_at(entry, "outputs")
        nodes = outputs.values() if isinstance(outputs, dict) else ()
        images: list[Any] = []
        for node in nodes:
            images += value_at(node, "images") or []
        # A preview node writes additional images of type "temp".
        saved = [image for image in images if value_at(image, "type") == "output"] or images
        if len(saved) != 1:
            cached = "" if saved else "; if its nodes were all cached, use {seed} in the sampler"
            raise RenderError(
                f"{self._client.url}: the workflow has made {len(saved)} pictures; it must make one"
                f"{cached}"
            )
        names = ("filename", "subfolder", "type")
        return await self._client.get_bytes(
            "/view", {name: str(value_at(saved[0], name) or "") for name in names}
        )


def _cause(entry: Json) -> str:
    """The cause in the messages of a failed job."""
    for message in value_at(entry, "status", "messages") or []:
        if value_at(message, 0) == "execution_error":
            node = value_at(message, 1, "node_type")
            return f"{node}: {str(value_at(message, 1, 'exception_message'))[:300].strip()}"
    return "the workflow has failed"


def open_comfyui(
    config: RenderConfig, blobs: BlobStore, folder: Path, watch: OutageWatch | None = None
) -> HttpRenderer:
    """The renderer. A relative workflow path starts at `folder`. Raises ConfigError."""
    if not config.http.workflow:
        raise ConfigError('[render.http] workflow: backend = "comfyui" needs a workflow\'s file')
    workflow = Workflow(folder / config.http.workflow)
    client = client_for(config)
    return HttpRenderer(ComfyUi(client, config, workflow), client, config, blobs, watch)
