"""A worker of bigpe's own protocol behind HTTP: what `bigpe serve` runs.

    POST /v1/render or /v1/score   a batch; see `bigpe.services.workers.endpoint`
    GET  /v1/health                kind, fingerprint, version and queue
    GET  /metrics                  for Prometheus

Every request needs the bearer token. The server limits request sizes, but does not encrypt: use it
in a trusted network or behind TLS.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bigpe.services.core.errors import BigpeError, DataError
from bigpe.services.core.version import VERSION
from bigpe.services.workers.endpoint import MOST_ITEMS, WorkerEndpoint

Handler = Callable[[Request], Awaitable[Response]]

MOST_BYTES = 256 * 1024 * 1024
"""Maximum size of a request, bytes."""
MOST_WAITING = 4 * MOST_ITEMS
"""Maximum number of queued items; beyond it, the worker answers that it is busy."""
BUSY_S = 2
"""Retry-After of a busy worker, seconds."""
KEY_BYTES = 16
"""Minimum length of the token, bytes."""


class Meter:
    """The worker's metrics for Prometheus."""

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
        """Count an answered request."""
        self.seconds.labels(kind).observe(time.monotonic() - start)
        for item in answer["items"]:
            self.items.labels(kind, "failed" if "error" in item else "done").inc()


def make_app(endpoint: WorkerEndpoint[Any, Any], token: str) -> Starlette:
    """The ASGI application; its lifespan loads the model and frees it."""
    meter = Meter(endpoint)

    def guarded(handler: Handler) -> Handler:
        return _with_token(handler, f"Bearer {token}".encode())

    async def health(request: Request) -> Response:
        return JSONResponse(
            {
                "kind": endpoint.kind,
                "fingerprint": await endpoint.open(),
                "version": VERSION,
                "waiting": endpoint.waiting,
            }
        )

    async def work(request: Request) -> Response:
        if endpoint.waiting > MOST_WAITING:
            busy = {"Retry-After": str(BUSY_S)}
            return _refuse(503, f"{endpoint.waiting} items wait already", busy)
        start = time.monotonic()
        answer = await endpoint.handle(_parsed(await _body(request)))
        meter.count(endpoint.kind, answer, start)
        return JSONResponse(answer)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(meter.registry), media_type="text/plain; version=0.0.4")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await endpoint.close()

    return Starlette(
        routes=[
            Route("/v1/health", guarded(health)),
            Route(f"/v1/{endpoint.kind}", guarded(work), methods=["POST"]),
            Route("/metrics", guarded(metrics)),
        ],
        lifespan=lifespan,
    )


def _with_token(handler: Handler, expected: bytes) -> Handler:
    """`handler` for requests with the `expected` header; its errors become responses."""

    async def answer(request: Request) -> Response:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            return _refuse(401, "the bearer token is missing or wrong")
        try:
            return await handler(request)
        except DataError as error:
            return _refuse(400, str(error))
        except BigpeError as error:
            # The worker's own trouble: another worker, or this one later, may do.
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


def _refuse(status: int, cause: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": cause}, status, headers)
