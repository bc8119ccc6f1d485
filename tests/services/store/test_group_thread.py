"""The database's thread: answers in order, failures to who asked, nothing lost at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bigpe.services.group_thread import GroupThread


def halves(numbers: Sequence[int]) -> list[int | Exception]:
    return [ValueError(f"{n} is odd") if n % 2 else n // 2 for n in numbers]


async def test_answers_and_failures_go_to_who_asked() -> None:
    thread: GroupThread[int, int] = GroupThread(halves, name="halves", max_group=4)
    results = await asyncio.gather(*(thread.do(n) for n in range(11)), return_exceptions=True)
    await thread.close()
    assert [r if isinstance(r, int) else str(r) for r in results] == [
        f"{n} is odd" if n % 2 else n // 2 for n in range(11)
    ]


async def test_what_waits_is_carried_over_together_up_to_the_limit() -> None:
    groups: list[int] = []

    def work(jobs: Sequence[int]) -> list[int | Exception]:
        groups.append(len(jobs))
        return list(jobs)

    thread: GroupThread[int, int] = GroupThread(work, name="count", max_group=4)
    await asyncio.gather(*(thread.do(n) for n in range(9)))
    await thread.close()
    assert groups == [4, 4, 1]


async def test_work_that_raises_fails_its_group_and_the_thread_goes_on() -> None:
    def work(jobs: Sequence[int]) -> list[int | Exception]:
        if 13 in jobs:
            raise RuntimeError("unlucky")
        return list(jobs)

    thread: GroupThread[int, int] = GroupThread(work, name="superstitious", max_group=2)
    with pytest.raises(RuntimeError, match="unlucky"):
        await thread.do(13)
    assert await thread.do(14) == 14
    await thread.close()


async def test_a_caller_who_gives_up_holds_up_nobody() -> None:
    thread: GroupThread[int, int] = GroupThread(halves, name="halves", max_group=4)
    asked = [asyncio.create_task(thread.do(n)) for n in (2, 4, 6)]
    await asyncio.sleep(0)
    asked[1].cancel()
    results = await asyncio.gather(*asked, return_exceptions=True)
    await thread.close()
    assert results[0] == 1 and results[2] == 3
    assert isinstance(results[1], asyncio.CancelledError)
