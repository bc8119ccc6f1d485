"""Handling of Ctrl-C and SIGTERM; no other module of bigpe handles signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def call_on_signals(action: Callable[[], None]) -> None:
    """Call `action` on each Ctrl-C and SIGTERM, until the event loop is closed.

    A server passes its `stop`. Cancelling the task instead would interrupt uvicorn's start or end,
    and its log would report a failed application.
    """
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, action)


class Interrupts:
    """Pauses a command's work on the first signal and cancels its task on the second.

    A context manager, owned by the command. Until `pause_first` is called there is no work to
    pause, and the first signal cancels.
    """

    def __init__(self, console: Console) -> None:
        """`console` prints what a second signal does."""
        self._console = console
        self._pause: Callable[[], None] | None = None
        self._pausing: Callable[[], bool] = lambda: False
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def __enter__(self) -> Interrupts:
        call_on_signals(self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    def pause_first(self, pause: Callable[[], None], pausing: Callable[[], bool]) -> None:
        """Let the next signal call `pause`, unless `pausing` returns that the work ends already."""
        self._pause, self._pausing = pause, pausing

    def _on_signal(self) -> None:
        if self._pause is not None and not self._pausing():
            self._pause()
            note = "finishing what is in flight; press Ctrl-C again to stop at once"
            self._console.print(Text(note))
        elif self._task is not None:
            self._task.cancel()
