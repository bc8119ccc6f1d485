"""An event loop on a thread of its own, for code that has none, or has one that is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """The thread is a daemon: an interpreter that forgets to close it ends all the same.

    (anyio's portal would wait for its thread then, and for ever.)
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; called from any other thread. Ctrl-C cancels it."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    async def enter(self, opening: AbstractAsyncContextManager[T]) -> T:
        """For `run`: open what is closed with the thread."""
        return await self._stack.enter_async_context(opening)

    def close(self) -> None:
        """Close what was entered, and end the thread."""
        if threading.current_thread() is self._thread:
            # The garbage collector may call from anywhere; nobody may wait for himself.
            self._loop.create_task(self._end())
            return
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._stack.aclose()
        self._loop.stop()
