"""A session that ends in the middle of a run leaves nothing behind that complains."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from bigpe.testing.runs import open_fake


@pytest.mark.parametrize("pause", [True, False], ids=["paused", "at-once"])
@pytest.mark.parametrize("messages", [3, 8, 20, 21, 22, 40])
async def test_no_handler_ends_after_its_runtime(
    tmp_path: Path, messages: int, pause: bool
) -> None:
    """AutoGen's stop() forgets its queue: what ended a moment later raised into the terminal."""
    results: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: results.append(context))

    async def stopped_in_the_middle() -> None:
        async with open_fake(tmp_path / "p") as session:
            seen = 0
            async for _ in session.run():
                seen += 1
                if seen == messages:
                    if pause:
                        session.pause()
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()

    await asyncio.wait({asyncio.create_task(stopped_in_the_middle())})
    for _ in range(10):
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert results == []
