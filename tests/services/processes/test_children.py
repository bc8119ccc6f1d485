"""Several equal processes: started when they pay, used side by side, ended together."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import psutil
import pytest
from support.tiny_models import TEST_ENV

from bigpe.services.core.errors import ConfigError, ServiceError
from bigpe.services.processes.cpu import MOST_PROCESSES, process_cores, processes_for
from bigpe.services.processes.process_pool import ProcessPool
from bigpe.services.processes.supervised_process import SupervisedProcess


def scripted(**config: str) -> SupervisedProcess:
    return SupervisedProcess(
        "support.tiny_models:scripted", {"env": TEST_ENV, **config}, name="test"
    )


async def pid(children: ProcessPool) -> int:
    return int((await children.call("pid", {}))["pid"])


async def used(children: ProcessPool, calls: int) -> set[int]:
    """The processes that answer `calls` calls at a time."""

    async def call() -> int:
        await children.call("sleep", {"seconds": 0.02})
        return await pid(children)

    return set(await asyncio.gather(*(call() for _ in range(calls))))


async def used_until(children: ProcessPool, enough: Callable[[set[int]], bool]) -> set[int]:
    found = set[int]()
    async with asyncio.timeout(60):
        while not enough(found):
            found |= await used(children, 8)
    return found


async def test_calls_one_after_another_stay_in_one_process() -> None:
    children = ProcessPool(scripted, 3)
    try:
        assert len({await pid(children) for _ in range(20)}) == 1
    finally:
        await children.close()


async def test_calls_that_wait_start_others_up_to_the_most() -> None:
    children = ProcessPool(scripted, 3)
    try:
        first = await pid(children)
        found = await used_until(children, lambda found: len(found) == 3)
        assert first in found
        assert found >= await used(children, 30), "no fourth one"
    finally:
        await children.close()
    assert not any(psutil.pid_exists(item) for item in found)


async def test_where_no_other_can_start_the_first_does_the_work() -> None:
    made = itertools.count()
    refused = asyncio.Event()

    def make() -> SupervisedProcess:
        if next(made) == 0:
            return scripted()
        refused.set()
        return scripted(refuse="ConfigError")

    children = ProcessPool(make, 3)
    try:
        found = await used_until(children, lambda _: refused.is_set())
        found |= await used(children, 30)
        assert len(found) == 1
        assert next(made) == 2, "it was tried once, and not again"
    finally:
        await children.close()


async def test_a_first_process_that_cannot_start_is_told() -> None:
    children = ProcessPool(lambda: scripted(refuse="ConfigError"), 2)
    with pytest.raises(ConfigError):
        await pid(children)
    await children.close()
    with pytest.raises(ServiceError, match="closed"):
        await pid(children)


@pytest.mark.parametrize(
    ("threads", "cores", "processes"),
    [(1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 5, 2), (4, 2, 1), (1, 64, MOST_PROCESSES)],
)
def test_processes_fill_the_cores_and_no_more(threads: int, cores: int, processes: int) -> None:
    assert processes_for(threads, cores) == processes


@pytest.mark.parametrize(("expected", "cores"), [("3", 3), ("1", 1)])
def test_the_cores_can_be_told(monkeypatch: pytest.MonkeyPatch, expected: str, cores: int) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", expected)
    assert process_cores() == cores


@pytest.mark.parametrize("expected", ["", "0", "-2", "many", "default"])
def test_else_they_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch, expected: str) -> None:
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    own = process_cores()
    monkeypatch.setenv("PYTHON_CPU_COUNT", expected)
    assert process_cores() == own == len(psutil.Process().cpu_affinity() or [])
