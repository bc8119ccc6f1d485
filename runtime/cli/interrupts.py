"""Ctrl-C and SIGTERM: the first finishes what is in flight, the second stops at once."""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType

from rich.console import Console
from rich.text import Text

from bigpe.runtime.session import Session

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Handles the signals of a command while it is entered; cancels its task to stop at once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._session: Session | None = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def __enter__(self) -> Interrupts:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    def pause_first(self, session: Session) -> None:
        """There is something in flight now: the first signal lets it end."""
        self._session = session

    def _on_signal(self) -> None:
        if self._session is not None and not self._session.pausing:
            self._session.pause()
            note = "finishing what is in flight; press Ctrl-C again to stop at once"
            self._console.print(Text(note))
        elif self._task is not None:
            self._task.cancel()
