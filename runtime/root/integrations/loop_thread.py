"""An event loop in its own thread, for code without an event loop or with a busy one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """A daemon thread with an event loop. The interpreter also ends if it is not closed.

    anyio's portal would wait for its thread forever in that case.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and wait for its result. Call it from another thread.

        An exception in the calling thread, such as Ctrl-C, cancels `work`.
        """
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    async def enter(self, opening: AbstractAsyncContextManager[T]) -> T:
        """Enter a context that `close` leaves. Call it through `run`."""
        return await self._stack.enter_async_context(opening)

    def close(self) -> None:
        """Leave all entered contexts, then end the thread."""
        if threading.current_thread() is self._thread:
            # The garbage collector may call this in the loop thread, where `join()` would deadlock.
            self._loop.create_task(self._end())
            return
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._stack.aclose()
        self._loop.stop()
