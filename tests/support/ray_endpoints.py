"""What actors of the tests serve: a module of its own, since actors import it by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.score.service import ScoreConfig
from bigpe.services.workers.endpoint import (
    RecentBlobs,
    WorkerEndpoint,
    render_endpoint,
    score_endpoint,
)
from bigpe.testing.fakes import FakeRenderer, FakeScorer


class Slow(FakeRenderer):
    """Tells its process, and may end it."""

    async def render(self, requests: Any) -> Any:
        for request in requests:
            if request.prompt == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
        return await super().render(requests)

    def _one(self, request: RenderRequest) -> Any:
        if request.prompt == "pid":
            result = {"pid": os.getpid()}
            return super()._one(request).model_copy(update={"truncated_tokens": result})  # pyright: ignore[reportAttributeAccessIssue]
        return super()._one(request)


def render_end(
    folder: Path, *, log: Path | None = None, delay_s: float = 0.0
) -> WorkerEndpoint[Any, Any]:
    blobs = RecentBlobs(folder / "images")
    renderer = Slow(blobs.store, log=log, delay_s=delay_s)
    return render_endpoint(renderer, blobs, RenderConfig())


def score_end(folder: Path) -> WorkerEndpoint[Any, Any]:
    blobs = RecentBlobs(folder / "images")
    return score_endpoint(FakeScorer(blobs.store), blobs, ScoreConfig())


class Refusing(FakeRenderer):
    async def open(self) -> str:
        raise ConfigError("there is no such model")


def refusing_end(folder: Path) -> WorkerEndpoint[Any, Any]:
    blobs = RecentBlobs(folder / "images")
    return render_endpoint(Refusing(blobs.store), blobs, RenderConfig())


class Different(FakeRenderer):
    async def open(self) -> str:
        return f"of {os.getpid()}"


def different_end(folder: Path) -> WorkerEndpoint[Any, Any]:
    blobs = RecentBlobs(folder / "images")
    return render_endpoint(Different(blobs.store), blobs, RenderConfig())
