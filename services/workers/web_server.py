"""A uvicorn server that a command runs: reports readiness and leaves signals to the command."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn


class WebServer(uvicorn.Server):
    """Leaves signals to its owner: uvicorn would raise them again and so skip the clean-up.

    The owner calls `stop` on a signal.
    """

    up: Callable[[], None] | None = None
    """Called when the server answers requests."""

    def stop(self) -> None:
        """End after the requests in flight; end at once before the start."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call `up` unless the server was stopped before."""
        await super().startup(sockets)
        if self.up is not None and not self.should_exit:
            self.up()
