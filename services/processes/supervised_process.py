"""A supervised child process that answers calls. A run survives its crash, hang or kill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from bigpe.services.core.errors import (
    BigpeError,
    GivenUpError,
    LostWorkerError,
    ServiceError,
    StoreError,
    TransientServiceError,
    error_from_json,
)
from bigpe.services.core.retrying import backoff_s
from bigpe.services.core.values import Json

LINE_LIMIT = 128 * 1024 * 1024
"""Largest answer, bytes."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
CLOSE_GRACE_S = 5.0
"""Time that `close` gives a call in flight, and then the process, to end."""
TAIL_LINES = 20


class SupervisedProcess:
    """A worker process. Its first call starts it; a call after its death starts it again."""

    def __init__(
        self,
        factory: str,
        config: Json,
        *,
        name: str,
        log_path: Path | None = None,
        call_timeout_s: float = 600.0,
        start_timeout_s: float = 600.0,
        max_restarts: int = 6,
        command: Sequence[str] = (),
        vet: Callable[[Json], None] | None = None,
    ) -> None:
        """`factory` is "package.module:function". It gets `config` without the key "env", whose
        entries become environment variables of the process.

        `command` starts another program, which exchanges the same lines as
        `bigpe.services.processes.worker_main`. After each start, `vet` gets the answer to the
        method "fingerprint" and raises an error if the process must not be used.
        """
        worker = (sys.executable, "-P", "-m", "bigpe.services.processes.worker_main", factory)
        self._command = tuple(command) or worker
        self._config = {key: value for key, value in config.items() if key != "env"}
        self._env: dict[str, str] = dict(config.get("env", {}))
        self._name = name
        self._log_path = log_path
        self._call_timeout_s = call_timeout_s
        self._start_timeout_s = start_timeout_s
        self._max_restarts = max_restarts
        self._vet = vet
        self._deaths = 0
        self.start_s = 0.0
        """Duration of the last start, seconds; 0 before the first start."""
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._lock = asyncio.Lock()
        self._closed = False
        self._ready = False
        """Whether the current process has loaded its model."""
        self._refusal: Json | None = None
        """The error of the backend's start, if a retry cannot help."""

    @property
    def pid(self) -> int | None:
        """The id of the current process, or None."""
        return self._process.pid if self._process else None

    async def open(self) -> None:
        """Start the process now instead of at the first call; raises what `call` raises."""
        async with self._lock:
            await self._be_there()

    async def call(self, method: str, payload: Json) -> Json:
        """The result of one call. Calls run one at a time.

        Raises the error that the backend raised; LostWorkerError if the process died, hung or lost
        its device (the next call starts it again); GivenUpError if it keeps dying; ServiceError if
        it is closed.
        """
        async with self._lock:
            await self._be_there()
            try:
                answer = await self._exchange(
                    {"method": method, "payload": payload}, self._call_timeout_s
                )
            except asyncio.CancelledError:
                # Else the next call would read its answer.
                await self._kill()
                raise
            if "error" in answer and answer["error"].get("lost"):
                raise await self._lost(f"failed for good ({answer['error']['error']})")
            self._deaths = 0
            return _result(answer)

    async def close(self) -> None:
        """End the process permanently; a second call does nothing.

        A call in flight fails after `CLOSE_GRACE_S`, a start that is not complete at once.
        """
        self._closed = True
        if not self._ready:
            await self._kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE_S), self._lock:
                pass
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), CLOSE_GRACE_S)
        await self._kill()

    async def _be_there(self) -> None:
        if self._closed:
            raise ServiceError(f"the {self._name} process is closed")
        if self._process is None:
            await self._start()

    async def _start(self) -> None:
        if self._deaths > self._max_restarts:
            raise GivenUpError(
                f"the {self._name} process died {self._deaths} times in a row; "
                f"{self._last_words()}. Fix that (a free device, a smaller max_batch), "
                "then run `bigpe resume`"
            )
        if self._refusal is not None:
            _result(self._refusal)
        if self._deaths:
            await asyncio.sleep(
                backoff_s(self._deaths, first_s=FIRST_BACKOFF_S, longest_s=LONGEST_BACKOFF_S)
            )
        self._tail.clear()
        since = time.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **self._env},
                start_new_session=True,  # a terminal's Ctrl-C is the run's to handle
                limit=LINE_LIMIT,
            )
        except OSError as error:
            raise ServiceError(f"cannot start the {self._name} process: {error}") from error
        self._drain = asyncio.create_task(self._keep_stderr(self._process))
        if self._closed:
            await self._kill()
            raise ServiceError(f"the {self._name} process is closed")
        try:
            answer = await self._exchange(self._config, self._start_timeout_s)
            if "error" in answer and answer["error"].get("lost"):
                raise await self._lost(f"failed to start ({answer['error']['error']})")
            if "error" in answer and not answer["error"]["transient"]:
                self._refusal = answer
            _result(answer)
            if self._vet is not None:
                request = {"method": "fingerprint", "payload": {}}
                self._vet(_result(await self._exchange(request, self._start_timeout_s)))
            self._ready = True
            self.start_s = time.monotonic() - since
        except asyncio.CancelledError:
            await self._kill()
            raise
        except BigpeError:
            await self._kill()
            raise

    async def _exchange(self, line: Json, timeout_s: float) -> Json:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write((json.dumps(line, allow_nan=False) + "\n").encode())
            await process.stdin.drain()
            answer = await asyncio.wait_for(process.stdout.readline(), timeout_s)
        except TimeoutError as error:
            raise await self._lost(f"gave no answer in {timeout_s:g} s and was ended") from error
        except ConnectionError as error:
            raise await self._death("") from error
        except ValueError as error:
            raise await self._death(f"its answer cannot be read: {error}") from error
        if not answer.endswith(b"\n"):
            raise await self._death("")
        parsed: Json = json.loads(answer)
        return parsed

    async def _death(self, why: str) -> ServiceError:
        if self._closed or self._process is None:
            return ServiceError(f"the {self._name} process was closed during a call")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), 2.0)
        return await self._lost(f"ended ({why or _exit_words(self._process.returncode)})")

    async def _lost(self, how: str) -> LostWorkerError:
        """Kill the process; the next call starts another one after a backoff."""
        await self._kill()
        self._deaths += 1
        return LostWorkerError(f"the {self._name} process {how}; {self._last_words()}")

    async def _kill(self) -> None:
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        if process.returncode is None:
            # The whole session, so that processes of the model end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if self._drain is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drain, 1.0)

    async def _keep_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        log = self._log_path
        while chunk := await process.stderr.read(65536):
            text = chunk.decode("utf-8", "replace")
            self._tail.extend(line for line in text.splitlines() if line.strip())
            if log is not None:
                try:
                    await asyncio.to_thread(_append, log, text)
                except StoreError as error:
                    # Read on: a process blocks when its stderr is full.
                    self._tail.append(str(error))
                    log = None

    def _last_words(self) -> str:
        text = f"its last line: {self._tail[-1][:300]}" if self._tail else "it wrote no line"
        return f"{text}; its log: {self._log_path}" if self._log_path else text


def _append(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _exit_words(code: int | None) -> str:
    if code is None:
        return "its output closed"
    if code == -signal.SIGKILL:
        return "signal SIGKILL, as the system sends when memory runs out"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _result(answer: Json) -> Json:
    """The result of an answer. Raises a failure as the class that it had in the child."""
    if "error" not in answer:
        result: Json = answer["result"]
        return result
    failure: Json = answer["error"]
    default = TransientServiceError if failure["transient"] else ServiceError
    raise error_from_json(failure, default)
