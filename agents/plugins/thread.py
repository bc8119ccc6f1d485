"""A thread with an event loop for plugin code, which may block, hang or fail.

Python cannot end a thread. A thread that hangs is abandoned until the process ends; the next call
gets a new thread and a new instance.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Generic, TypeVar

from bigpe.agents.plugins import RoleError
from bigpe.services.core.errors import LlmError

T = TypeVar("T")
R = TypeVar("R")

GRACE_S = 1.0
"""Seconds for a cancelled call to end, and for the thread to end."""


class WorkClock:
    """A time limit of one call, paused while the call waits for a language model.

    The time of language models has its own limit. Use it in the run's event loop.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._left = limit_s
        self._waiting = 0
        self._timeout = asyncio.timeout(limit_s)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Wrap the call. Raises TimeoutError when the time is up. A clock is used once."""
        async with self._timeout:
            yield

    @contextmanager
    def paused(self) -> Generator[None]:
        """Wrap a wait that does not count. Several waits may overlap."""
        now = asyncio.get_running_loop().time
        if not self._waiting:
            self._left = max(0.0, (self._timeout.when() or now()) - now())
            self._set(None)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._set(now() + self._left)

    def _set(self, when: float | None) -> None:
        with suppress(RuntimeError):  # the call has ended before this wait
            self._timeout.reschedule(when)


class _LoopThread(Generic[T]):
    """One thread with the plugin instance that it made."""

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._make = make
        self._instance: T | None = None
        self.loop = asyncio.new_event_loop()
        # A daemon thread does not keep the process alive.
        self._thread = threading.Thread(target=self._live, name=f"role-{name}", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(_cancel_rest())
            self.loop.close()

    async def work(self, wanted: Callable[[T], Awaitable[R]]) -> R:
        """Run `wanted` in the thread. Exceptions of the plugin become RoleErrors."""
        try:
            if self._instance is None:
                self._instance = self._make()
            return await wanted(self._instance)
        except (RoleError, LlmError, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise RoleError(f"{type(error).__name__}: {error}") from error

    def leave(self) -> None:
        """Make the thread end when its current work returns."""
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def ended(self) -> None:
        """Wait until the thread has ended, at most GRACE_S."""
        await asyncio.to_thread(self._thread.join, GRACE_S)


class RoleThread(Generic[T]):
    """Calls an instance made by `make` in its thread, one call at a time."""

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._name = name
        self._make = make
        self._current: _LoopThread[T] | None = None

    async def call(self, wanted: Callable[[T], Awaitable[R]], clock: WorkClock) -> R:
        """The result of `wanted` for the instance. Raises RoleError on failure or timeout."""
        current = self._current = self._current or _LoopThread(self._name, self._make)
        running = asyncio.run_coroutine_threadsafe(current.work(wanted), current.loop)
        try:
            async with clock.running():
                return await asyncio.wrap_future(running)
        except TimeoutError:
            if not await _answers(current.loop):
                current.leave()
                self._current = None
            raise RoleError(
                f"no answer in {clock.limit_s:g} s; raise [roles.{self._name}] timeout_s if it "
                "needs more"
            ) from None

    async def close(self) -> None:
        """End the thread; a thread that hangs is abandoned."""
        if self._current is not None:
            self._current.leave()
            await self._current.ended()
            self._current = None


async def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop still runs, so the cancelled call has ended."""
    echo = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
    try:
        async with asyncio.timeout(GRACE_S):
            await asyncio.wrap_future(echo)
    except TimeoutError:
        return False
    return True


async def _cancel_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.wait(rest, timeout=GRACE_S) if rest else None
