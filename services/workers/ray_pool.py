"""Workers as Ray actors: started while there is work, ended when idle, replaced when lost.

Ray places the actors and moves bytes. Requests and answers have the form of `wire_format`, as
over HTTP. Only the run's process writes the journal, so an actor may die at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from bigpe.services.core.errors import (
    BigpeError,
    ConfigError,
    GivenUpError,
    LostWorkerError,
    ServiceError,
    error_from_json,
    error_to_json,
)
from bigpe.services.core.values import Json
from bigpe.services.workers.config import WorkerScalingConfig
from bigpe.services.workers.endpoint import WorkerEndpoint

log = structlog.get_logger("bigpe.workers")

LOSSES_PER_CALL = 2
"""Lost workers after which a call fails: the call itself may be the cause."""
MOST_LOSSES = 8
"""Workers lost in a row, over all calls, after which the run stops. It can be resumed."""
START_TIMEOUT_S = 600.0
HEALTH_S = 10.0
"""Interval of the health checks of idle workers."""
HEALTH_TIMEOUT_S = 60.0
"""Time limit of a health check. It is long, because a busy machine is slow to answer."""
CLOSE_S = 5.0


class _RayActor:
    """The object in an actor's process: a worker endpoint with its own folder."""

    def __init__(self, make: Callable[[Path], WorkerEndpoint[Any, Any]]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bigpe-worker-"))
        self._make = make
        self._endpoint: WorkerEndpoint[Any, Any] | None = None

    async def open(self) -> Json:
        """The fingerprint, or the error."""
        return await _answer(self._open())

    async def handle(self, payload: Json) -> Json:
        """See `WorkerEndpoint.handle`; an error of the whole call is returned as an answer."""
        assert self._endpoint is not None, "open() comes first"
        return await _answer(self._endpoint.handle(payload))

    async def close(self) -> None:
        """Free the model and the folder."""
        if self._endpoint is not None:
            await self._endpoint.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _open(self) -> Json:
        if self._endpoint is None:
            self._endpoint = self._make(self._folder)
        return {"fingerprint": await self._endpoint.open()}


async def _answer(work: Coroutine[Any, Any, Json]) -> Json:
    try:
        return await work
    except BigpeError as error:
        return error_to_json(error)


@dataclass(eq=False)
class _Worker:
    """One actor as the pool sees it."""

    actor: Any
    idle_since: float = 0.0
    """Clock time."""


class RayPool:
    """A WorkerPool of Ray actors."""

    def __init__(
        self,
        kind: str,
        make: Callable[[Path], WorkerEndpoint[Any, Any]],
        config: WorkerScalingConfig,
        *,
        address: str | None,
        call_timeout_s: float,
    ) -> None:
        """`make` is called in the actor's process with a folder for its images."""
        self.parallelism = config.max
        self._kind = kind
        self._make = make
        self._config = config
        self._address = address
        self._timeout_s = call_timeout_s
        self._ray: Any = None
        self._connected = False
        """Whether this pool must end the connection."""
        self._fingerprint = ""
        self._opening = asyncio.Lock()
        self._workers: set[_Worker] = set()
        """All workers, busy and idle."""
        self._starting = 0
        self._idle: deque[_Worker] = deque()
        """Idle workers, the most recently used last."""
        self._waiting: deque[asyncio.Future[_Worker]] = deque()
        self._losses = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def size(self) -> int:
        """Number of running workers."""
        return len(self._workers)

    async def open(self) -> str:
        """See `WorkerPool.open`: starts Ray and the first `min` workers."""
        async with self._opening:
            if not self._fingerprint:
                self._ray, self._connected = await asyncio.to_thread(_connect, self._address)
                self._require_room()
                self._starting += self._config.min
                await asyncio.gather(*(self._start() for _ in range(self._config.min)))
                self._spawn(self._tend())
        return self._fingerprint

    async def call(self, payload: Json) -> Json:
        """See `WorkerPool.call`. A call whose worker is lost goes to another worker."""
        await self.open()
        lost = ""
        for _ in range(LOSSES_PER_CALL):
            worker = await self._take()
            try:
                answer = await self._answer(worker, "handle", payload, self._timeout_s)
            except LostWorkerError as error:
                self._lose(worker, str(error))
                lost = str(error)
                continue
            except BaseException:
                # The worker must not count as idle before it has answered.
                self._lose(worker, "the call was given up")
                raise
            self._losses = 0
            self._give_back(worker)
            return _result(answer)
        raise LostWorkerError(lost)

    async def close(self) -> None:
        """End the workers, and Ray if this process started it."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_waiting(ServiceError(f"the {self._kind} workers are closed"))
        await asyncio.gather(*(self._end(worker) for worker in list(self._workers)))
        if self._connected:
            await asyncio.to_thread(_disconnect)

    # -- starting and ending workers --------------------------------------------------------------

    async def _start(self) -> None:
        """Start one worker, which `_starting` counts already. Raises ConfigError."""
        options = {"num_cpus": self._config.cpus, "num_gpus": self._config.gpus, "max_restarts": 0}
        worker = _Worker(self._ray.remote(**options)(_RayActor).remote(self._make))
        try:
            opened = _result(await self._answer(worker, "open", None, START_TIMEOUT_S))
            self._require_same(str(opened["fingerprint"]))
        except BaseException:
            self._ray.kill(worker.actor)
            raise
        finally:
            self._starting -= 1
        self._workers.add(worker)
        self._give_back(worker)

    async def _start_later(self) -> None:
        """Start a worker in the background. Waiting calls fail if no other start is left."""
        try:
            await self._start()
        except BigpeError as error:
            log.warning("a worker cannot be started", kind=self._kind, cause=str(error))
            if not self._workers and not self._starting:
                self._fail_waiting(error)

    def _lose(self, worker: _Worker, why: str) -> None:
        """Remove a worker, and start another worker if too few are left."""
        if worker not in self._workers:
            return
        log.warning("a worker is lost", kind=self._kind, cause=why)
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._ray.kill(worker.actor)
        self._losses += 1
        self._fill()

    def _fill(self) -> None:
        """Start workers: at least `min`, and one for each waiting call, at most `max`."""
        if self._closed:
            return
        waiting = sum(not future.done() for future in self._waiting)
        wanted = max(self._config.min, len(self._workers) + waiting)
        while len(self._workers) + self._starting < min(wanted, self._config.max):
            self._starting += 1
            self._spawn(self._start_later())

    async def _take(self) -> _Worker:
        """Wait for an idle worker."""
        if self._losses > MOST_LOSSES:
            raise GivenUpError(
                f"{self._losses} {self._kind} workers were lost in a row; see Ray's logs, then run "
                "`bigpe resume`"
            )
        if self._closed:
            raise ServiceError(f"the {self._kind} workers are closed")
        if self._idle:
            return self._idle.pop()
        future: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._fill()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back(future.result())
            raise

    def _give_back(self, worker: _Worker, *, used: bool = True) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(worker)
                return
        if used:
            worker.idle_since = time.monotonic()
        self._idle.append(worker)

    def _fail_waiting(self, error: BigpeError) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    async def _tend(self) -> None:
        """End superfluous idle workers and replace unhealthy idle workers."""
        while True:
            await asyncio.sleep(min(HEALTH_S, self._config.idle_s / 2))
            now = time.monotonic()
            while self._idle and len(self._workers) > self._config.min:
                if now - self._idle[0].idle_since < self._config.idle_s:
                    break
                await self._end(self._idle.popleft())
            for worker in list(self._idle):
                if worker not in self._idle:
                    continue
                self._idle.remove(worker)
                try:
                    await self._answer(worker, "open", None, HEALTH_TIMEOUT_S)
                except LostWorkerError as error:
                    self._lose(worker, str(error))
                else:
                    self._give_back(worker, used=False)

    async def _end(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        try:
            await self._answer(worker, "close", None, CLOSE_S)
        except LostWorkerError:
            pass
        self._ray.kill(worker.actor)

    async def _answer(
        self, worker: _Worker, method: str, payload: Json | None, timeout_s: float
    ) -> Json:
        """The result of the actor's method. Raises LostWorkerError if it died or hangs."""
        arguments = () if payload is None else (payload,)
        try:
            async with asyncio.timeout(timeout_s):
                answer: Json = await getattr(worker.actor, method).remote(*arguments)
                return answer
        except TimeoutError as error:
            raise LostWorkerError(
                f"a {self._kind} worker gave no answer in {timeout_s:g} s"
            ) from error
        except self._ray.exceptions.RayError as error:
            # The first line is the event, the last line the exception of the actor.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            text = lines[0][:200] + (f" ... {lines[-1][:200]}" if len(lines) > 1 else "")
            raise LostWorkerError(f"a {self._kind} worker is lost: {text}") from error

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _require_same(self, fingerprint: str) -> None:
        self._fingerprint = self._fingerprint or fingerprint
        if fingerprint != self._fingerprint:
            raise ConfigError(
                f"the {self._kind} workers differ ({self._fingerprint[:8]}, {fingerprint[:8]}), "
                "and their results cannot be compared; the nodes need equal models, devices and "
                "releases"
            )

    def _require_room(self) -> None:
        """Raise ConfigError if a local Ray has too few resources for `min` workers."""
        if self._address is not None:
            return  # a cluster may grow
        there = self._ray.cluster_resources()
        for name, each in (("CPU", self._config.cpus), ("GPU", self._config.gpus)):
            if each * self._config.min > there.get(name, 0.0):
                raise ConfigError(
                    f"[workers.{self._kind}] min = {self._config.min} workers of {each:g} {name} "
                    f"each do not fit: this machine has {there.get(name, 0.0):g}"
                )


def _result(answer: Json) -> Json:
    """The answer of a call. A failure is raised with the class that it had in the actor."""
    if "error" in answer:
        raise error_from_json(answer, ServiceError)
    return answer


_users = 0
"""Number of pools that use the Ray of this process."""
_connecting = threading.Lock()


def _connect(address: str | None) -> tuple[Any, bool]:
    """The connected ray module, and whether this call connected it. Raises ConfigError."""
    with _connecting:
        return _connect_once(address)


def _connect_once(address: str | None) -> tuple[Any, bool]:
    global _users
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # optional, and slow to import
    except ImportError as error:
        raise ConfigError(
            "[workers] backend = \"ray\" needs Ray: pip install 'bigpe[ray]'"
        ) from error
    if _users == 0 and ray.is_initialized():
        return ray, False  # the connection belongs to the caller
    if _users == 0:
        own: Json = {"include_dashboard": False} if address is None else {}
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **own)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"[workers] address = {address!r}: no Ray there: {error}") from error
    _users += 1
    return ray, True


def _disconnect() -> None:
    global _users
    with _connecting:
        _users = max(0, _users - 1)
        if _users == 0:
            import ray

            ray.shutdown()
