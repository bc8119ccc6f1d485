"""The table of built-in renderers and scorers: name, description, and how each is opened.

To add a backend, add its name to `BuiltinRenderer` or `BuiltinScorer` and a row here.
Installed packages add further backends, see `plugins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from bigpe.services.core import plugins
from bigpe.services.core.errors import ConfigError, RenderError, ScoreError, ServiceError
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.render.config import BuiltinRenderer, RenderConfig
from bigpe.services.render.hosted.a1111 import open_a1111
from bigpe.services.render.hosted.comfyui import open_comfyui
from bigpe.services.render.hosted.http_base import refuse_unused
from bigpe.services.render.hosted.jobs import described, open_jobs
from bigpe.services.render.hosted.openai_images import open_openai_images
from bigpe.services.render.hosted.services import SERVICES, JobService
from bigpe.services.render.negatives import require_negative, require_reader
from bigpe.services.render.service import DiffusersRenderer, Renderer
from bigpe.services.score.hpsv2.scorer import Hpsv2PackageScorer
from bigpe.services.score.service import BuiltinScorer, ClipScorer, ScoreConfig, Scorer
from bigpe.services.store.blobs import BlobStore
from bigpe.services.workers.config import WorkersConfig
from bigpe.services.workers.endpoint import (
    RecentBlobs,
    WorkerEndpoint,
    render_endpoint,
    score_endpoint,
)
from bigpe.services.workers.http_pool import HttpPool
from bigpe.services.workers.ray_pool import RayPool
from bigpe.services.workers.remote_backends import RemoteRenderer, RemoteScorer

C = TypeVar("C")
M = TypeVar("M")


class ServiceContext(NamedTuple):
    """What a backend gets besides its settings."""

    blobs: BlobStore
    """Where images are stored."""
    folder: Path
    """The project's folder; relative paths in settings start here."""
    log_path: Path
    """Log file of the backend's process."""
    workers: WorkersConfig = WorkersConfig()
    """Where models run."""
    cores: int = 1
    """CPU cores that small models may share."""
    watch: OutageWatch | None = None
    """How outages of services are waited for; None: not at all."""


class Backend(NamedTuple, Generic[C, M]):
    """A built-in renderer or scorer."""

    summary: str
    """One line for `bigpe renderers list` and `bigpe scorers list`."""
    open: Callable[[C, ServiceContext], M]
    """Makes the model, not loaded yet. ConfigError."""
    runs_elsewhere: bool = False
    """Whether it is a service already, so that Ray workers have nothing to run for it."""


def _open_diffusers(config: RenderConfig, context: ServiceContext) -> Renderer:
    return DiffusersRenderer(config, context.blobs, log_path=context.log_path, cores=context.cores)


def _open_openai_images(config: RenderConfig, context: ServiceContext) -> Renderer:
    return open_openai_images(config, context.blobs, context.watch)


def _open_a1111(config: RenderConfig, context: ServiceContext) -> Renderer:
    return open_a1111(config, context.blobs, context.watch)


def _open_comfyui(config: RenderConfig, context: ServiceContext) -> Renderer:
    return open_comfyui(config, context.blobs, context.folder, context.watch)


def _open_jobs(config: RenderConfig, context: ServiceContext) -> Renderer:
    return open_jobs(config, described(config), context.blobs, context.watch)


def _hosted(service: JobService, name: str) -> Backend[RenderConfig, Renderer]:
    def opened(config: RenderConfig, context: ServiceContext) -> Renderer:
        return open_jobs(config, SERVICES[service], context.blobs, context.watch)

    return Backend(name, opened, runs_elsewhere=True)


def _open_remote_renderer(config: RenderConfig, context: ServiceContext) -> Renderer:
    refuse_unused(config, ())
    pool = _http_pool("render", config, context, RenderError)
    return RemoteRenderer(pool, context.blobs)


def _open_clip(config: ScoreConfig, context: ServiceContext) -> Scorer:
    return ClipScorer(config, context.blobs, log_path=context.log_path)


def _open_hpsv2_package(config: ScoreConfig, context: ServiceContext) -> Scorer:
    return Hpsv2PackageScorer(config, context.blobs, log_path=context.log_path)


def _open_remote_scorer(config: ScoreConfig, context: ServiceContext) -> Scorer:
    if config.model != ScoreConfig().model:
        raise ConfigError('[score] model has no effect with backend = "bigpe"; take it out')
    pool = _http_pool("score", config, context, ScoreError)
    return RemoteScorer(pool, context.blobs)


RENDERERS: Mapping[BuiltinRenderer, Backend[RenderConfig, Renderer]] = {
    "diffusers": Backend("a diffusers pipeline in a separate process", _open_diffusers),
    "openai-images": Backend(
        "a server with OpenAI's Images API", _open_openai_images, runs_elsewhere=True
    ),
    "together": _hosted("together", "Together AI"),
    "fal": _hosted("fal", "fal's queue"),
    "replicate": _hosted("replicate", "Replicate's predictions"),
    "bfl": _hosted("bfl", "Black Forest Labs' API"),
    "gemini-images": _hosted("gemini-images", "Gemini models that paint"),
    "jobs": Backend(
        "a service that you describe in [render.http.job]", _open_jobs, runs_elsewhere=True
    ),
    "a1111": Backend(
        "AUTOMATIC1111's web UI, or a server with the same API", _open_a1111, runs_elsewhere=True
    ),
    "comfyui": Backend("a ComfyUI server and your workflow", _open_comfyui, runs_elsewhere=True),
    "bigpe": Backend(
        "workers started by `bigpe serve render`", _open_remote_renderer, runs_elsewhere=True
    ),
}
SCORERS: Mapping[BuiltinScorer, Backend[ScoreConfig, Scorer]] = {
    "clip": Backend("a CLIP-family model in a separate process", _open_clip),
    "bigpe": Backend(
        "workers started by `bigpe serve score`", _open_remote_scorer, runs_elsewhere=True
    ),
    "hpsv2-package": Backend(
        "the official hpsv2 package in its own environment", _open_hpsv2_package
    ),
}


def open_renderer(config: RenderConfig, context: ServiceContext) -> Renderer:
    """The renderer that `[render] backend` names, not loaded yet. ConfigError."""
    require_negative(config, context.folder)
    backend = {**RENDERERS}.get(config.backend)
    if context.workers.backend == "ray" and not (backend and backend.runs_elsewhere):
        return RemoteRenderer(_ray_pool(config, context), context.blobs)
    if backend:
        return backend.open(config, context)
    made: Renderer = plugins.make("renderers", config.backend, config, context.blobs)
    require_reader(config, made)
    return made


def open_scorer(config: ScoreConfig, context: ServiceContext) -> Scorer:
    """The scorer that `[score] backend` names, not loaded yet. ConfigError."""
    backend = {**SCORERS}.get(config.backend)
    if context.workers.backend == "ray" and not (backend and backend.runs_elsewhere):
        return RemoteScorer(_ray_pool(config, context), context.blobs)
    if backend:
        return backend.open(config, context)
    return plugins.make("scorers", config.backend, config, context.blobs)


def open_endpoint(
    config: RenderConfig | ScoreConfig, folder: Path, work: Path
) -> WorkerEndpoint[Any, Any]:
    """The endpoint of a worker for `[render]` or `[score]`.

    `folder` is the project's. The worker keeps its images and its log in `work`.
    """
    blobs = RecentBlobs(work / "images")
    context = ServiceContext(blobs.store, folder, work / "log")
    if isinstance(config, RenderConfig):
        return render_endpoint(open_renderer(config, context), blobs, config)
    return score_endpoint(open_scorer(config, context), blobs, config)


def _http_pool(
    kind: str,
    config: RenderConfig | ScoreConfig,
    context: ServiceContext,
    error: type[ServiceError],
) -> HttpPool:
    limit_s = config.call_timeout_s
    return HttpPool(kind, config.http, timeout_s=limit_s, error=error, watch=context.watch)


def _ray_pool(config: RenderConfig | ScoreConfig, context: ServiceContext) -> RayPool:
    kind = "render" if isinstance(config, RenderConfig) else "score"
    return RayPool(
        kind,
        partial(open_endpoint, config, context.folder.absolute()),
        context.workers.render if kind == "render" else context.workers.score,
        address=context.workers.address,
        call_timeout_s=config.call_timeout_s,
    )
