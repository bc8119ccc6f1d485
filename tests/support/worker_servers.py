"""bigpe's own workers on this machine: a real HTTP server in a thread, the fakes behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from bigpe.services.render.config import RenderConfig
from bigpe.services.score.service import ScoreConfig
from bigpe.services.workers.endpoint import (
    RecentBlobs,
    WorkerEndpoint,
    render_endpoint,
    score_endpoint,
)
from bigpe.services.workers.http_app import make_app
from bigpe.testing.fakes import FakeRenderer, FakeScorer

TOKEN = "a-token-of-the-tests-8f2c1e"
TOKEN_ENV = "BIGPE_TEST_WORKER_TOKEN"


class WorkerServer:
    """Serves what `make` makes, until `stop`."""

    def __init__(self, make: Callable[[], WorkerEndpoint[Any, Any]], *, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._make = make
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait(10)

    async def _serve(self) -> None:
        # A queue belongs to the loop that it is used in, so the end is made here.
        app = make_app(self._make(), TOKEN)
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        self._server.config.timeout_graceful_shutdown = 1
        self._ready.set()
        await self._server.serve([self._socket])

    def stop(self) -> None:
        """End at once: connections are cut, as those of a machine that dies."""
        self._server.force_exit = True
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def render_worker(folder: Path, *, log: Path | None = None, port: int = 0) -> WorkerServer:
    blobs = RecentBlobs(folder)
    renderer = FakeRenderer(blobs.store, log=log)
    return WorkerServer(lambda: render_endpoint(renderer, blobs, RenderConfig()), port=port)


def score_worker(folder: Path) -> WorkerServer:
    blobs = RecentBlobs(folder)
    scorer = FakeScorer(blobs.store)
    return WorkerServer(lambda: score_endpoint(scorer, blobs, ScoreConfig()))
