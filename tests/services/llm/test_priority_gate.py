"""The gate in front of a language model: bounded, older rounds first, robust to who gives up."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from bigpe.services.llm.priority_semaphore import PrioritySemaphore


@settings(max_examples=60, deadline=None)
@given(
    places=st.integers(1, 3),
    priorities=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    give_up=st.sets(st.integers(0, 11)),
)
def test_who_waits_goes_by_priority_and_nobody_is_forgotten(
    places: int, priorities: list[int], give_up: set[int]
) -> None:
    asyncio.run(check(places, priorities, give_up))


async def check(places: int, priorities: list[int], give_up: set[int]) -> None:
    gate, opened = PrioritySemaphore(places), asyncio.Event()
    passed: list[int] = []
    inside = most = 0

    async def holder() -> None:
        async with gate.passage(0):
            await opened.wait()

    async def caller(index: int) -> None:
        nonlocal inside, most
        async with gate.passage(priorities[index]):
            inside += 1
            most = max(most, inside)
            passed.append(index)
            await asyncio.sleep(0)
            inside -= 1

    holders = [asyncio.create_task(holder()) for _ in range(places)]
    await asyncio.sleep(0)
    callers = [asyncio.create_task(caller(index)) for index in range(len(priorities))]
    await asyncio.sleep(0)
    for index in give_up & set(range(len(callers))):
        callers[index].cancel()
    opened.set()
    await asyncio.wait_for(asyncio.gather(*holders, *callers, return_exceptions=True), 60)
    stayed = [index for index in range(len(priorities)) if index not in give_up]
    assert passed == sorted(stayed, key=lambda index: (priorities[index], index))
    assert most <= places
    async with asyncio.timeout(60), gate.passage(0):
        pass  # every place was given back
