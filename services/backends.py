"""The built-in renderers and scorers by name; what is not here, an installed package may offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bigpe.services import plugins
from bigpe.services.a1111 import open_a1111
from bigpe.services.blobs import BlobStore
from bigpe.services.comfyui import open_comfyui
from bigpe.services.errors import ConfigError, RenderError, ScoreError
from bigpe.services.hpsv2_package import Hpsv2PackageScorer
from bigpe.services.http_pool import HttpPool
from bigpe.services.http_render import refuse_unused
from bigpe.services.openai_images import open_openai_images
from bigpe.services.pooling import PoolConfig
from bigpe.services.ray_pool import RayPool
from bigpe.services.remote import RemoteRenderer, RemoteScorer
from bigpe.services.render import DiffusersRenderer, RenderConfig, Renderer
from bigpe.services.score import ClipScorer, ScoreConfig, Scorer
from bigpe.services.serving import End, RecentBlobs, RenderEnd, ScoreEnd


class Workplace(NamedTuple):
    """What a backend is given besides its settings."""

    blobs: BlobStore
    """Where pictures are kept."""
    folder: Path
    """The project's; relative paths in settings start here."""
    log_path: Path
    """What a process of the backend's own may write to."""
    pool: PoolConfig = PoolConfig()
    """Where models run."""
    cores: int = 1
    """That small models may share."""


RENDERERS: Mapping[str, Callable[[RenderConfig, Workplace], Renderer]] = {
    "diffusers": lambda config, at: DiffusersRenderer(
        config, at.blobs, log_path=at.log_path, cores=at.cores
    ),
    "openai-images": lambda config, at: open_openai_images(config, at.blobs),
    "a1111": lambda config, at: open_a1111(config, at.blobs),
    "comfyui": lambda config, at: open_comfyui(config, at.blobs, at.folder),
    "bigpe": lambda config, at: RemoteRenderer(_render_workers(config), at.blobs),
}
SCORERS: Mapping[str, Callable[[ScoreConfig, Workplace], Scorer]] = {
    "clip": lambda config, at: ClipScorer(config, at.blobs, log_path=at.log_path),
    "bigpe": lambda config, at: RemoteScorer(_score_workers(config), at.blobs),
    "hpsv2-package": lambda config, at: Hpsv2PackageScorer(config, at.blobs, log_path=at.log_path),
}


def _render_workers(config: RenderConfig) -> HttpPool:
    refuse_unused(config, ())
    return HttpPool("render", config.http, timeout_s=config.call_timeout_s, error=RenderError)


def _score_workers(config: ScoreConfig) -> HttpPool:
    if config.model != ScoreConfig().model:
        raise ConfigError('[score] model has no effect with backend = "bigpe"; take it out')
    return HttpPool("score", config.http, timeout_s=config.call_timeout_s, error=ScoreError)


SERVICES = frozenset({"openai-images", "a1111", "comfyui", "bigpe"})
"""Backends that run elsewhere already: a pool of Ray's has nothing to do for them."""


def open_end(config: RenderConfig | ScoreConfig, folder: Path, work: Path) -> End:
    """A worker's side of the protocol, for `[render]` or `[score]`.

    `folder` is the project's; the worker keeps its pictures and its log in `work`.
    """
    blobs = RecentBlobs(work / "images")
    at = Workplace(blobs.store, folder, work / "log")
    if isinstance(config, RenderConfig):
        return RenderEnd(open_renderer(config, at), blobs, config)
    return ScoreEnd(open_scorer(config, at), blobs, config)


def _ray_pool(config: RenderConfig | ScoreConfig, at: Workplace) -> RayPool:
    kind = "render" if isinstance(config, RenderConfig) else "score"
    return RayPool(
        kind,
        partial(open_end, config, at.folder.absolute()),
        at.pool.render if kind == "render" else at.pool.score,
        address=at.pool.address,
        call_timeout_s=config.call_timeout_s,
    )


def open_renderer(config: RenderConfig, at: Workplace) -> Renderer:
    """The renderer that `[render] backend` names, its model not loaded yet; ConfigError."""
    if at.pool.backend == "ray" and config.backend not in SERVICES:
        return RemoteRenderer(_ray_pool(config, at), at.blobs)
    if config.backend in RENDERERS:
        return RENDERERS[config.backend](config, at)
    return plugins.make("renderers", config.backend, config, at.blobs)


def open_scorer(config: ScoreConfig, at: Workplace) -> Scorer:
    """The scorer that `[score] backend` names, its model not loaded yet; ConfigError."""
    if at.pool.backend == "ray" and config.backend not in SERVICES:
        return RemoteScorer(_ray_pool(config, at), at.blobs)
    if config.backend in SCORERS:
        return SCORERS[config.backend](config, at)
    return plugins.make("scorers", config.backend, config, at.blobs)
