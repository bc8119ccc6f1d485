"""A web server that a command runs: tells when it is up, and ends in peace on Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WebServer(uvicorn.Server):
    """Leaves signals to its owner: uvicorn would raise them again and so skip the cleaning up."""

    up: Callable[[], None] | None = None
    """Called once requests are answered."""

    def end_on_signals(self) -> None:
        """From now until the loop is closed, signals end the server, and nothing else of this task.

        A cancellation while uvicorn starts or ends would show in its log as a failed application.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)

    def stop(self) -> None:
        """End, the requests in flight first; at once if it has not begun."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell so; a server that is to end already has nothing to tell."""
        await super().startup(sockets)
        if self.up is not None and not self.should_exit:
            self.up()
