"""The HTTP application of a worker, for `bigpe serve`.

    POST /v1/render or /v1/score   a batch; see `bigpe.services.workers.endpoint`
    GET  /v1/health                kind, fingerprint, version and queue length
    GET  /metrics                  for Prometheus

Each request needs the bearer token. The server is for trusted networks: it limits requests, but it
does not encrypt. Put it behind TLS where others can read the traffic.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bigpe.services.core.errors import BigpeError, DataError
from bigpe.services.core.version import VERSION
from bigpe.services.workers.endpoint import MOST_ITEMS, WorkerEndpoint

MOST_BYTES = 256 * 1024 * 1024
"""Largest body of a request."""
MOST_WAITING = 4 * MOST_ITEMS
"""Items in the queue; with more the worker answers that it is busy."""
BUSY_S = 2
"""Retry-After of a busy worker."""
KEY_BYTES = 16
"""Length of the shortest token."""

Handler = Callable[[Request], Awaitable[Response]]


class Meter:
    """The worker's counters for Prometheus."""

    def __init__(self, endpoint: WorkerEndpoint[Any, Any]) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        labels = ["kind", "result"]
        self.items = Counter("bigpe_worker_items", "Items answered", labels, registry=own)
        self.seconds = Histogram(
            "bigpe_worker_request_seconds", "Time of one request", ["kind"], registry=own
        )
        waiting = Gauge("bigpe_worker_waiting_items", "Items in the queue", ["kind"], registry=own)
        waiting.labels(endpoint.kind).set_function(lambda: endpoint.waiting)

    def count(self, kind: str, answer: dict[str, Any], start: float) -> None:
        """Count an answered request that began at `start` (monotonic seconds)."""
        self.seconds.labels(kind).observe(time.monotonic() - start)
        for item in answer["items"]:
            self.items.labels(kind, "failed" if "error" in item else "done").inc()


@dataclass(frozen=True)
class _Handlers:
    """Answers the requests of one worker."""

    endpoint: WorkerEndpoint[Any, Any]
    meter: Meter

    async def health(self, request: Request) -> Response:
        return JSONResponse(
            {
                "kind": self.endpoint.kind,
                "fingerprint": await self.endpoint.open(),
                "version": VERSION,
                "waiting": self.endpoint.waiting,
            }
        )

    async def work(self, request: Request) -> Response:
        if self.endpoint.waiting > MOST_WAITING:
            busy = {"Retry-After": str(BUSY_S)}
            return _refuse(503, f"{self.endpoint.waiting} items wait already", busy)
        start = time.monotonic()
        answer = await self.endpoint.handle(_parsed(await _body(request)))
        self.meter.count(self.endpoint.kind, answer, start)
        return JSONResponse(answer)

    async def metrics(self, request: Request) -> Response:
        text = generate_latest(self.meter.registry)
        return Response(text, media_type="text/plain; version=0.0.4")


def make_app(endpoint: WorkerEndpoint[Any, Any], token: str) -> Starlette:
    """Make the ASGI application. It closes the endpoint when it shuts down."""
    handlers = _Handlers(endpoint, Meter(endpoint))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await endpoint.close()

    return Starlette(
        routes=[
            Route("/v1/health", _guarded(handlers.health, token)),
            Route(f"/v1/{endpoint.kind}", _guarded(handlers.work, token), methods=["POST"]),
            Route("/metrics", _guarded(handlers.metrics, token)),
        ],
        lifespan=lifespan,
    )


def _guarded(handler: Handler, token: str) -> Handler:
    """`handler` behind the bearer token, with errors as HTTP answers."""
    expected = f"Bearer {token}".encode()

    async def answer(request: Request) -> Response:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            return _refuse(401, "the bearer token is missing or wrong")
        try:
            return await handler(request)
        except DataError as error:
            return _refuse(400, str(error))
        except BigpeError as error:
            # A fault of this worker: the client may try another worker, or this one later.
            return _refuse(503, str(error))

    return answer


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            raise DataError(f"the request is larger than {MOST_BYTES / 1e6:g} MB; send fewer items")
    return bytes(data)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError("the request is not JSON") from error
    if not isinstance(payload, dict):
        raise DataError("the request is not a JSON object")
    return payload


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
