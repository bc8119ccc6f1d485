"""The render service: a text-to-image model in a separate process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bigpe.services.core.errors import ConfigError, RenderError, error_from_json
from bigpe.services.core.values import Image, Json, RenderRequest
from bigpe.services.models.fingerprints import SameModel
from bigpe.services.processes.cpu import processes_for, thread_env
from bigpe.services.processes.model_service import Model, ModelService
from bigpe.services.processes.process_pool import ProcessPool
from bigpe.services.processes.supervised_process import SupervisedProcess
from bigpe.services.render.config import RenderConfig
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import CallCacheProtocol

BACKEND = "bigpe.services.render.diffusers.process:open_backend"


class Renderer(Model, Protocol):
    """A text-to-image model. The service calls `open`, then `render`, and at the end `close`."""

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """Render a batch.

        Args:
            requests: 1 to `[render] max_batch` requests.

        Returns:
            An image or an error for each request, in order. The PNG files are in the blob store.

        Raises:
            ServiceError: The whole batch failed. Its requests are then rendered one by one.
        """
        ...


class DiffusersRenderer:
    """A diffusers pipeline in a separate process, or in several for the embedded pipeline."""

    def __init__(
        self,
        config: RenderConfig,
        blobs: BlobStore,
        *,
        log_path: Path | None = None,
        cores: int = 1,
    ) -> None:
        """`cores`: CPU cores that the embedded pipeline may use. Its matrices are small: a second
        thread gains nothing, a second process doubles the images per second. Other pipelines are
        too large to load twice."""
        self._name = config.model
        settings = config.model_dump(mode="json")
        self.parallelism = processes_for(config.threads, cores) if config.model == "embedded" else 1
        self._model = SameModel("renderer", "Pictures")
        env = thread_env(config.threads)
        self._children = ProcessPool(
            lambda: SupervisedProcess(
                BACKEND,
                {"render": settings, "images": str(blobs.folder), "env": env},
                name="renderer",
                log_path=log_path,
                call_timeout_s=config.call_timeout_s,
                vet=self._model.vet,
            ),
            self.parallelism,
        )

    async def open(self) -> str:
        """Load the model; returns the fingerprint. Raises ConfigError if loading fails."""
        if not self._model.fingerprint:
            # Here, because the process takes seconds to load its libraries.
            require_folder(self._name)
            await self._children.call("fingerprint", {})
            if self.fingerprint_inputs.get("settings", {}).get("device", "cpu") != "cpu":
                self._children.most = 1  # one process fills a GPU
        return self._model.fingerprint

    @property
    def fingerprint_inputs(self) -> Json:
        """See `fingerprints.Composed`."""
        return self._model.fingerprint_inputs

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """See `Renderer.render`."""
        items = [request.content() for request in requests]
        answer = await self._children.call("render", {"items": items})
        return [_image(item) for item in answer["items"]]

    async def close(self) -> None:
        """End the processes."""
        await self._children.close()


def require_folder(model: str) -> None:
    """Raise ConfigError if `[render] model` is the path of a folder that does not exist."""
    if (Path(model).is_absolute() or model.startswith(".")) and not Path(model).is_dir():
        raise ConfigError(f"[render] model = {model!r}: there is no such folder")


def _image(item: Json) -> Image | Exception:
    return error_from_json(item, RenderError) if "error" in item else Image.model_validate(item)


class RenderService(ModelService[Renderer, RenderRequest, Image]):
    """A renderer behind a queue and the call cache: equal requests are rendered once."""

    kind = "render"

    def __init__(
        self, renderer: Renderer, memo: CallCacheProtocol, blobs: BlobStore, config: RenderConfig
    ) -> None:
        super().__init__(renderer, renderer.render, Image, memo, config.max_batch)
        self._blobs = blobs

    async def render(self, request: RenderRequest) -> Image:
        """The image, in the blob store. Raises RenderError, or StoreError if storing fails."""
        return await self.call(request)

    def _is_valid(self, stored: Json) -> bool:
        return self._blobs.has(str(stored["digest"]))
