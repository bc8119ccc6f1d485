"""The render service: pictures by a text-to-image model, each painted once, in a process apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bigpe.services import plugins
from bigpe.services.after_start import AfterStart
from bigpe.services.blobs import BlobStore
from bigpe.services.child import Child
from bigpe.services.children import Children
from bigpe.services.cores import processes_for
from bigpe.services.effects import Memo
from bigpe.services.errors import (
    BigpeError,
    RenderError,
    StoreError,
    TransientServiceError,
)
from bigpe.services.fingerprints import SameModel
from bigpe.services.http_client import HttpConfig
from bigpe.services.queueing import BatchQueue, lanes_of
from bigpe.services.spending import Timed, timed
from bigpe.services.values import Image, Json, RenderRequest, digest

BACKEND = "bigpe.services.diffusers_backend:open_backend"
BACKENDS = {
    "diffusers": "a diffusers pipeline in a process of its own",
    "openai-images": "a server with OpenAI's Images API",
    "a1111": "AUTOMATIC1111's web UI, or what imitates it",
    "comfyui": "a ComfyUI server and your workflow",
    "bigpe": "workers started by `bigpe serve render`",
}
"""The built-in renderers, each in a line."""
MAX_WAIT_S = 0.02


class PictureServiceConfig(HttpConfig):
    """`[render.http]`: a picture service."""

    extra: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(default_factory=dict[str, Any])
    """Further fields of every request, as the service names them."""
    send_seed: Annotated[bool, AfterStart.NEEDS_FORK] = False
    """Whether an "openai-images" server takes a seed; OpenAI's own refuses it."""
    workflow: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """Of "comfyui": a workflow in API format, in the project's folder."""


class RenderConfig(BaseModel):
    """`[render]`: the text-to-image model. SDXL-Turbo and the embedded one differ only here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Annotated[str, AfterStart.NEEDS_FORK] = "diffusers"
    """One of `bigpe renderers list`; services are described in `[render.http]`."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """`[render.options]`: for a renderer of another package."""
    model: Annotated[str, AfterStart.NEEDS_FORK] = "embedded"
    """"embedded", a folder, or a hub id; a service's own name of a model."""
    revision: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """Of a hub id: a commit, so that the model cannot change under a run."""
    variant: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    device: Annotated[Literal["auto", "cuda", "mps", "cpu"], AfterStart.NEEDS_FORK] = "auto"
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], AfterStart.NEEDS_FORK] = (
        "auto"
    )
    steps: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=12, ge=1, le=1000)
    guidance: Annotated[float, AfterStart.NEEDS_FORK] = Field(default=3.0, ge=0.0, le=100.0)
    """Guidance scale; 0 for SDXL-Turbo."""
    size: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=8, le=4096)
    """Width and height, pixels; None: the model's own."""
    negative_prompt: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    scheduler: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """A diffusers scheduler's class name, to replace the model's."""
    timestep_spacing: Annotated[
        Literal["leading", "linspace", "trailing"] | None, AfterStart.NEEDS_FORK
    ] = None
    vae: Annotated[str | None, AfterStart.NEEDS_FORK] = None
    """A folder or hub id of another VAE."""
    max_batch: Annotated[int, AfterStart.IF_SAME_MODEL] = Field(default=4, ge=1, le=256)
    deterministic: Annotated[bool | None, AfterStart.NEEDS_FORK] = None
    """Paint one at a time, so that a picture cannot depend on its company; None: on CPU only."""
    threads: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=2, ge=1, le=512)
    """CPU threads of the model's process; they change the order of sums, and so the last digits."""
    call_timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=600.0, gt=0)
    http: PictureServiceConfig = PictureServiceConfig()

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        return plugins.require_known("renderers", name, BACKENDS)


class Renderer(Protocol):
    """Paints batches."""

    async def open(self) -> str:
        """Load the model; returns its fingerprint: a digest of all that a result depends on.

        ConfigError when it cannot be loaded. A second call returns at once.
        """
        ...

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """A picture or a failure for each request, in order."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


class DiffusersRenderer:
    """A diffusers pipeline in a process of its own; the embedded one in several."""

    def __init__(
        self,
        config: RenderConfig,
        blobs: BlobStore,
        *,
        log_path: Path | None = None,
        cores: int = 1,
    ) -> None:
        """`cores`: how many the embedded pipeline may use. Its products are small: a second thread
        gains nothing, a second process doubles the pictures. Others are too large to load twice."""
        settings = config.model_dump(mode="json")
        self.lanes = processes_for(config.threads, cores) if config.model == "embedded" else 1
        self._model = SameModel("renderer", "Pictures")
        env = thread_env(config.threads)
        self._children = Children(
            lambda: Child(
                BACKEND,
                {"render": settings, "images": str(blobs.folder), "env": env},
                name="renderer",
                log_path=log_path,
                call_timeout_s=config.call_timeout_s,
                vet=self._model.vet,
            ),
            self.lanes,
        )

    async def open(self) -> str:
        """Load the model; returns the fingerprint. ConfigError when it cannot be loaded."""
        if not self._model.fingerprint:
            await self._children.call("fingerprint", {})
            if self.made_of.get("settings", {}).get("device", "cpu") != "cpu":
                self._children.most = 1  # a GPU is full with one
        return self._model.fingerprint

    @property
    def made_of(self) -> Json:
        """See `fingerprints.Composed`."""
        return self._model.made_of

    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        """See `Renderer.render`."""
        items = [{"prompt": request.prompt, "seed": request.seed} for request in requests]
        answer = await self._children.call("render", {"items": items})
        return [_image(item) for item in answer["items"]]

    async def close(self) -> None:
        """End its processes."""
        await self._children.close()


def thread_env(threads: int) -> dict[str, str]:
    """Environment of a torch process: pinned threads that sleep when they have nothing to do."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _image(item: Json) -> Image | Exception:
    if "error" not in item:
        return Image.model_validate(item)
    kinds: dict[str, type[BigpeError]] = {
        "StoreError": StoreError,
        "TransientServiceError": TransientServiceError,
    }
    return kinds.get(str(item["kind"]), RenderError)(str(item["error"]))


def render_key(fingerprint: str, prompt: str, seed: int) -> str:
    """Key of the stored picture; `fingerprint` is that of the renderer."""
    return digest(
        {"op": "render", "version": 1, "model": fingerprint, "prompt": prompt, "seed": seed}
    )


class RenderService:
    """A renderer behind queue and memo: equal requests are painted once."""

    def __init__(
        self, renderer: Renderer, memo: Memo, blobs: BlobStore, config: RenderConfig
    ) -> None:
        self.backend = renderer
        self._memo = memo
        self._blobs = blobs
        self.queue: BatchQueue[RenderRequest, Timed[Image]] = BatchQueue(
            timed(renderer.render),
            max_batch=config.max_batch,
            max_wait_s=MAX_WAIT_S,
            lanes=lanes_of(renderer),
        )

    async def render(self, request: RenderRequest) -> Image:
        """The picture, in the blob store. RenderError; StoreError when it cannot be kept."""
        fingerprint = await self.backend.open()
        body: Json = {"prompt": request.prompt, "seed": request.seed}
        key = render_key(fingerprint, request.prompt, request.seed)

        async def paint() -> Json:
            painted = await self.queue.submit(request, request.priority)
            return painted.note().model_dump(mode="json")

        stored = await self._memo.run(key, "render", body, paint, valid=self._is_there)
        return Image.model_validate(stored)

    def _is_there(self, stored: Json) -> bool:
        return self._blobs.has(str(stored["digest"]))

    async def open(self) -> str:
        """Load the model now instead of at the first request; returns its fingerprint."""
        return await self.backend.open()

    async def close(self) -> None:
        """Stop the queue; the renderer is its owner's to close."""
        await self.queue.close()
