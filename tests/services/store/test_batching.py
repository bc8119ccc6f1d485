"""The group queue: answers in order, failures to their callers, nothing lost at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bigpe.services.store.batching import GroupQueue


async def halves(numbers: Sequence[int]) -> list[int | Exception]:
    return [ValueError(f"{n} is odd") if n % 2 else n // 2 for n in numbers]


async def test_answers_and_failures_go_to_their_callers() -> None:
    queue: GroupQueue[int, int] = GroupQueue(halves, max_group=4)
    results = await asyncio.gather(*(queue.submit(n) for n in range(11)), return_exceptions=True)
    await queue.close()
    assert [r if isinstance(r, int) else str(r) for r in results] == [
        f"{n} is odd" if n % 2 else n // 2 for n in range(11)
    ]


async def test_waiting_jobs_form_groups_up_to_the_limit() -> None:
    groups: list[int] = []

    async def process(jobs: Sequence[int]) -> list[int | Exception]:
        groups.append(len(jobs))
        return list(jobs)

    queue: GroupQueue[int, int] = GroupQueue(process, max_group=4)
    await asyncio.gather(*(queue.submit(n) for n in range(9)))
    await queue.close()
    assert groups == [4, 4, 1]


async def test_jobs_that_arrive_while_a_group_runs_form_the_next_group() -> None:
    groups: list[list[int]] = []
    started, finish = asyncio.Event(), asyncio.Event()

    async def process(jobs: Sequence[int]) -> list[int | Exception]:
        groups.append(list(jobs))
        started.set()
        await finish.wait()
        return list(jobs)

    queue: GroupQueue[int, int] = GroupQueue(process, max_group=4)
    first = asyncio.create_task(queue.submit(0))
    await started.wait()
    later = [asyncio.create_task(queue.submit(n)) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    finish.set()
    assert await asyncio.gather(first, *later) == [0, 1, 2, 3]
    await queue.close()
    assert groups == [[0], [1, 2, 3]]


async def test_a_process_that_raises_fails_its_group_only() -> None:
    async def process(jobs: Sequence[int]) -> list[int | Exception]:
        if 13 in jobs:
            raise RuntimeError("unlucky")
        return list(jobs)

    queue: GroupQueue[int, int] = GroupQueue(process, max_group=2)
    with pytest.raises(RuntimeError, match="unlucky"):
        await queue.submit(13)
    assert await queue.submit(14) == 14
    await queue.close()


async def test_a_cancelled_caller_delays_no_other() -> None:
    queue: GroupQueue[int, int] = GroupQueue(halves, max_group=4)
    callers = [asyncio.create_task(queue.submit(n)) for n in (2, 4, 6)]
    await asyncio.sleep(0)
    callers[1].cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    await queue.close()
    assert results[0] == 1 and results[2] == 3
    assert isinstance(results[1], asyncio.CancelledError)


async def test_close_finishes_the_jobs_in_the_queue() -> None:
    queue: GroupQueue[int, int] = GroupQueue(halves, max_group=1)
    callers = [asyncio.create_task(queue.submit(n)) for n in (2, 4, 6)]
    await asyncio.sleep(0)
    await queue.close()
    assert [await caller for caller in callers] == [1, 2, 3]
