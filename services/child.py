"""A supervised child process that answers calls: it may hang, die or be killed; the run goes on."""

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

from bigpe.services import errors
from bigpe.services.errors import (
    BigpeError,
    GivenUpError,
    LostWorkerError,
    ServiceError,
    StoreError,
    TransientServiceError,
    UnusableAnswerError,
)
from bigpe.services.retrying import backoff_s
from bigpe.services.values import Json

LINE_LIMIT = 128 * 1024 * 1024
"""Bytes of the longest answer."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
CLOSE_GRACE_S = 5.0
"""How long a call in flight, and then the process, may take to end once it is being closed."""
TAIL_LINES = 20


class Child:
    """A worker process, started by its first call and again after it died."""

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
        """`factory` is "package.module:function"; `config` goes to it, but for its key "env",
        whose entries become environment variables of the process.

        `command` starts a program of its own in place of the factory; it speaks the lines of
        `bigpe.services.worker`. `vet` is given what the process answers to the method "fingerprint"
        each time it was started, and raises when that process must not be used.
        """
        worker = (sys.executable, "-P", "-m", "bigpe.services.worker", factory)
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
        """How long the last start took, seconds; 0 before the first."""
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._lock = asyncio.Lock()
        self._closed = False
        self._refusal: Json | None = None
        """Why the backend could not be made, when another try will not mend it."""

    @property
    def pid(self) -> int | None:
        """The process now, or None."""
        return self._process.pid if self._process else None

    async def open(self) -> None:
        """Start the process now instead of at the first call; raises what `call` raises."""
        async with self._lock:
            await self._be_there()

    async def call(self, method: str, payload: Json) -> Json:
        """One call, one at a time.

        Raises what the backend raised; LostWorkerError when the process died, hung or lost its
        device (the next call starts another); GivenUpError when it keeps dying; ServiceError when
        it is closed.
        """
        async with self._lock:
            await self._be_there()
            try:
                answer = await self._exchange(
                    {"method": method, "payload": payload}, self._call_timeout_s
                )
            except asyncio.CancelledError:
                # Its answer would be taken for the next call's.
                await self._kill()
                raise
            if "error" in answer and answer["error"].get("lost"):
                raise await self._lost(f"failed for good ({answer['error']['message']})")
            self._deaths = 0
            return _result(answer)

    async def close(self) -> None:
        """End the process for good; a second call does nothing.

        A call in flight has `CLOSE_GRACE_S` to finish, then it fails.
        """
        self._closed = True
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
                f"{self._last_words()}. Mend that (a free device, a smaller max_batch), "
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
        try:
            answer = await self._exchange(self._config, self._start_timeout_s)
            if "error" in answer and answer["error"].get("lost"):
                raise await self._lost(f"failed to start ({answer['error']['message']})")
            if "error" in answer and not answer["error"]["transient"]:
                self._refusal = answer
            _result(answer)
            if self._vet is not None:
                asked = {"method": "fingerprint", "payload": {}}
                self._vet(_result(await self._exchange(asked, self._start_timeout_s)))
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
        """Clear the process away; the next call starts another one, after a while."""
        await self._kill()
        self._deaths += 1
        return LostWorkerError(f"the {self._name} process {how}; {self._last_words()}")

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            # Its whole session: what the model started must go with it.
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
                    # Read on: a process whose stderr is full would stand still.
                    self._tail.append(str(error))
                    log = None

    def _last_words(self) -> str:
        said = f"its last line: {self._tail[-1][:300]}" if self._tail else "it said nothing"
        return f"{said}; its log: {self._log_path}" if self._log_path else said


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
    """The result of an answer; a failure is raised as the class it had in the child."""
    if "error" not in answer:
        result: Json = answer["result"]
        return result
    told: Json = answer["error"]
    message = str(told["message"])
    if told["type"] == UnusableAnswerError.__name__:
        raise UnusableAnswerError(message, str(told.get("raw", "")))
    kind = getattr(errors, str(told["type"]), None) if told["type"] else None
    if isinstance(kind, type) and issubclass(kind, BigpeError):
        raise kind(message)
    raise (TransientServiceError if told["transient"] else ServiceError)(message)
