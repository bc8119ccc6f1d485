"""The batching queue: order, batches, failures item by item, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigpe.services.core.errors import (
    GivenUpError,
    LostWorkerError,
    ServiceError,
    TransientServiceError,
)
from bigpe.services.processes.batch_queue import BatchQueue


class Doubler:
    """Doubles numbers; fails on odd ones, and as a whole on those above 100."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, batch: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(batch))
        await self.gate.wait()
        if any(number > 100 for number in batch):
            raise ValueError("too large")
        return [ServiceError(f"{n} is odd") if n % 2 else 2 * n for n in batch]


def queue_of(double: Doubler, **settings: float) -> BatchQueue[int, int]:
    chosen = {"max_batch": 4, "max_wait_s": 0.01, **settings}
    return BatchQueue(double, **chosen)


async def filled(
    queue: BatchQueue[int, int], double: Doubler, submits: list[tuple[int, int]]
) -> list[asyncio.Task[int]]:
    """Submit (request, priority) pairs while the process function is busy with a first item."""
    double.gate.clear()
    first = asyncio.create_task(queue.submit(0))
    while not double.batches:
        await asyncio.sleep(0.001)
    tasks = [asyncio.create_task(queue.submit(*submit)) for submit in submits]
    await asyncio.sleep(0)
    return [first, *tasks]


async def test_items_go_in_batches_by_priority_then_order() -> None:
    double = Doubler()
    queue = queue_of(double, max_wait_s=0.0)
    tasks = await filled(queue, double, [(2, 5), (4, 1), (6, 1), (8, 0), (10, 5)])
    assert queue.depth == 5
    double.gate.set()
    assert await asyncio.gather(*tasks) == [0, 4, 8, 12, 16, 20]
    assert double.batches == [[0], [8, 4, 6, 2], [10]]
    assert queue.depth == 0
    await queue.close()


async def test_a_bad_item_fails_alone() -> None:
    double = Doubler()
    queue = queue_of(double)
    results = await asyncio.gather(
        *(queue.submit(n) for n in (2, 3, 101, 4)), return_exceptions=True
    )
    assert [str(r) for r in results] == ["4", "3 is odd", "too large", "8"]
    assert double.batches == [[2, 3, 101, 4], [2], [3], [101], [4]]
    await queue.close()


class Worker:
    """Doubles numbers; 13 ends the process that it shares with its company."""

    def __init__(self, error: Exception, poison: int = 13) -> None:
        self.batches: list[list[int]] = []
        self._error = error
        self._poison = poison

    async def __call__(self, batch: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(batch))
        if self._poison in batch:
            raise self._error
        return [2 * n for n in batch]


@pytest.mark.parametrize("error", [LostWorkerError("died"), TransientServiceError("busy")])
async def test_one_that_takes_the_process_with_it_fails_alone(error: Exception) -> None:
    worker = Worker(error)
    queue: BatchQueue[int, int] = BatchQueue(worker, max_batch=4, max_wait_s=0.01)
    results = await asyncio.gather(*(queue.submit(n) for n in (2, 13, 4)), return_exceptions=True)
    assert results == [4, error, 8]
    assert worker.batches == [[2, 13, 4], [2], [13], [4]]
    await queue.close()


async def test_who_lost_the_process_alone_is_kept_out_of_company_until_it_succeeds() -> None:
    worker = Worker(LostWorkerError("died"))
    queue: BatchQueue[int, int] = BatchQueue(worker, max_batch=4, max_wait_s=0.01)
    with pytest.raises(LostWorkerError):
        await queue.submit(13)
    for poison in (13, 0):
        worker._poison = poison
        await asyncio.gather(*(queue.submit(n) for n in (2, 13, 4, 6)), return_exceptions=True)
    assert worker.batches[1:4] == [[2], [13], [4, 6]]
    assert worker.batches[4:] == [[2], [13], [4, 6]], "kept apart once more, and then it succeeded"
    await asyncio.gather(*(queue.submit(n) for n in (2, 13, 4, 6)))
    assert worker.batches[7:] == [[2, 13, 4, 6]]
    await queue.close()


async def test_a_process_that_was_given_up_is_not_asked_again_for_each_item() -> None:
    worker = Worker(GivenUpError("died 9 times"))
    queue: BatchQueue[int, int] = BatchQueue(worker, max_batch=4, max_wait_s=0.01)
    results = await asyncio.gather(*(queue.submit(n) for n in (2, 13)), return_exceptions=True)
    assert [str(result) for result in results] == ["died 9 times"] * 2
    assert worker.batches == [[2, 13]]
    await queue.close()


async def test_a_cancelled_submit_leaves_the_queue() -> None:
    double = Doubler()
    queue = queue_of(double, max_wait_s=0.0)
    tasks = await filled(queue, double, [(2, 0), (4, 0)])
    tasks[1].cancel()
    await asyncio.sleep(0)
    double.gate.set()
    assert await tasks[2] == 8
    assert double.batches == [[0], [4]]
    await queue.close()


async def test_a_full_queue_makes_callers_wait() -> None:
    double = Doubler()
    queue = queue_of(double, capacity=3, max_wait_s=0.0)
    tasks = await filled(queue, double, [(n, 0) for n in (2, 4, 6, 8)])
    assert queue.depth == 2
    double.gate.set()
    assert await asyncio.gather(*tasks) == [0, 4, 8, 12, 16]
    await queue.close()


@pytest.mark.parametrize("max_wait_s", [0.0, 60.0])
async def test_close_leaves_nobody_waiting(max_wait_s: float) -> None:
    double = Doubler()
    double.gate.clear()
    queue = queue_of(double, max_wait_s=max_wait_s)
    tasks = [asyncio.create_task(queue.submit(n)) for n in (2, 4)]
    await asyncio.sleep(0.05)
    await queue.close()
    async with asyncio.timeout(60):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError | ServiceError) for r in results)
    with pytest.raises(ServiceError, match="closed"):
        async with asyncio.timeout(60):
            await queue.submit(6)


async def test_a_wrong_number_of_answers_fails_the_items_not_the_queue() -> None:
    async def forgetful(batch: Sequence[int]) -> list[int | Exception]:
        return [] if 7 in batch else [2 * n for n in batch]

    queue: BatchQueue[int, int] = BatchQueue(forgetful, max_batch=4)
    async with asyncio.timeout(60):
        with pytest.raises(ServiceError, match="0 answers to 1 requests"):
            await queue.submit(7)
        assert await queue.submit(8) == 16
    await queue.close()


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3)), max_size=20),
    max_batch=st.integers(1, 5),
)
def test_everyone_gets_their_own_answer(numbers: list[tuple[int, int]], max_batch: int) -> None:
    async def run() -> None:
        double = Doubler()
        queue = queue_of(double, max_batch=max_batch, max_wait_s=0.0, capacity=7)
        results = await asyncio.gather(
            *(queue.submit(*submit) for submit in numbers), return_exceptions=True
        )
        for (number, _), result in zip(numbers, results, strict=True):
            if number > 100:
                assert isinstance(result, ValueError)
            elif number % 2:
                assert str(result) == f"{number} is odd"
            else:
                assert result == 2 * number
        assert all(len(batch) <= max_batch for batch in double.batches)
        await queue.close()

    asyncio.run(run())


async def test_batches_run_in_parallel() -> None:
    double = Doubler()
    double.gate.clear()
    queue: BatchQueue[int, int] = BatchQueue(double, max_batch=1, max_parallel_batches=3)
    tasks = [asyncio.create_task(queue.submit(2 * number)) for number in range(5)]
    while len(double.batches) < 3:
        await asyncio.sleep(0)
    assert queue.depth == 2, "the others wait: three batches are under way"
    double.gate.set()
    assert await asyncio.gather(*tasks) == [0, 4, 8, 12, 16]
    await queue.close()


async def test_a_lane_takes_its_share_and_leaves_the_rest_to_the_others() -> None:
    double = Doubler()
    double.gate.clear()
    queue: BatchQueue[int, int] = BatchQueue(double, max_batch=8, max_parallel_batches=2)
    tasks = [asyncio.create_task(queue.submit(2 * number)) for number in range(6)]
    while len(double.batches) < 2:
        await asyncio.sleep(0)
    double.gate.set()
    assert await asyncio.gather(*tasks) == [0, 4, 8, 12, 16, 20]
    assert [len(batch) for batch in double.batches] == [3, 2, 1]
    await queue.close()
