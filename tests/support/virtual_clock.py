"""A clock that a test moves: waits take no time."""

from __future__ import annotations

import asyncio


class VirtualClock:
    """See `bigpe.services.core.outages.clock.Clock`. A wait moves the clock."""

    def __init__(self) -> None:
        self.at = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)
        self.at += seconds
