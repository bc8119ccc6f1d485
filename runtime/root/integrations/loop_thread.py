"""An event loop in its own thread, for code without a loop or with a busy loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines of other threads. Its owner calls `close`.

    The thread is a daemon, so the interpreter can exit without `close`; anyio's portal would wait
    forever.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`. Call it from another thread; Ctrl-C cancels the work."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    async def enter(self, opening: AbstractAsyncContextManager[T]) -> T:
        """Enter a context manager that `close` exits. Use it with `run`."""
        return await self._stack.enter_async_context(opening)

    def close(self) -> None:
        """Exit the entered context managers and end the thread."""
        if threading.current_thread() is self._thread:
            # The garbage collector may call this in the loop's thread, where `join` would deadlock.
            self._loop.create_task(self._end())
            return
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._stack.aclose()
        self._loop.stop()
