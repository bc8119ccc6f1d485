"""A thread with an event loop for code that is not ours, which may block, hang or die in it.

Python cannot end a thread. One that does not come back is left behind (it ends with the process)
and the next call gets a new thread and a new instance.
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
"""For a cancelled call to end, and for the thread at the end."""


class WorkClock:
    """A limit on a call's own time: it stands still while the call waits for a language model,
    whose time is limited elsewhere. For use in the run's event loop."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._left = limit_s
        self._waiting = 0
        self._timeout = asyncio.timeout(limit_s)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The call. TimeoutError when its time is up; for one use."""
        async with self._timeout:
            yield

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """A wait that does not count; several may overlap."""
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
        with suppress(RuntimeError):  # the call is over, and has left this wait behind
            self._timeout.reschedule(when)


class _LoopThread(Generic[T]):
    """One thread, and the instance that lives in it."""

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._make = make
        self._tenant: T | None = None
        self.loop = asyncio.new_event_loop()
        # A daemon: a thread that hangs must not keep the process alive.
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
        """Runs in the thread. RoleError for whatever the foreign code raises."""
        try:
            if self._tenant is None:
                self._tenant = self._make()
            return await wanted(self._tenant)
        except (RoleError, LlmError, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise RoleError(f"{type(error).__name__}: {error}") from error

    def leave(self) -> None:
        """Let the thread end as soon as it comes back to its loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def ended(self) -> None:
        """Returns once the thread has ended, or after GRACE_S."""
        await asyncio.to_thread(self._thread.join, GRACE_S)


class RoleThread(Generic[T]):
    """Calls an instance that `make` makes, in its thread, one call at a time."""

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._name = name
        self._make = make
        self._room: _LoopThread[T] | None = None

    async def call(self, wanted: Callable[[T], Awaitable[R]], clock: WorkClock) -> R:
        """What `wanted` returns for the instance. RoleError when it fails or takes too long."""
        room = self._room = self._room or _LoopThread(self._name, self._make)
        running = asyncio.run_coroutine_threadsafe(room.work(wanted), room.loop)
        try:
            async with clock.running():
                return await asyncio.wrap_future(running)
        except TimeoutError:
            if not await _answers(room.loop):
                room.leave()
                self._room = None
            raise RoleError(
                f"no answer in {clock.limit_s:g} s; raise [roles.{self._name}] timeout_s if it "
                "needs more"
            ) from None

    async def close(self) -> None:
        """End the thread; one that hangs is left behind."""
        if self._room is not None:
            self._room.leave()
            await self._room.ended()
            self._room = None


async def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop still turns, so that the cancelled call is over."""
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
