"""Access to a service: turns, outages that are waited for, and failures of the call itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_clock import VirtualClock

from bigpe.services.core.errors import (
    LlmError,
    LostWorkerError,
    OutageError,
    QuotaError,
    TransientLlmError,
    TransientServiceError,
    Trouble,
    trouble_of,
)
from bigpe.services.core.outages.access import MOST_REFUSALS, ServiceAccess
from bigpe.services.core.outages.adaptive_limit import AdaptiveLimit
from bigpe.services.core.outages.watch import OutageReport, OutageRule, OutageWatch

LIMIT_S = 600.0


Fault = Callable[["Service", str, int], Exception | None]
"""The failure of a call, or None: by the service, the call's name and its number from 1."""


@dataclass
class Service:
    """A service with a clock."""

    clock: VirtualClock
    fault: Fault
    seconds: float = 0.1
    """Duration of a call."""
    in_flight: int = 0
    most: int = 0
    calls: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    async def __call__(self, name: str) -> str:
        self.calls.append((self.clock.at, name))
        number = len(self.calls)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            self.clock.at += self.seconds
            if (error := self.fault(self, name, number)) is not None:
                raise error
            return name
        finally:
            self.in_flight -= 1


def opened(
    fault: Fault, *, places: int = 4, limit_s: float = LIMIT_S
) -> tuple[ServiceAccess, Service, OutageWatch]:
    clock = VirtualClock()
    watch = OutageWatch(OutageRule(limit_s=limit_s), clock)
    return ServiceAccess("the service", places, watch), Service(clock, fault), watch


async def ask_all(access: ServiceAccess, service: Service, count: int) -> list[str | BaseException]:
    names = [f"call {index}" for index in range(count)]

    async def ask(name: str) -> str:
        return await access.call(lambda: service(name))

    return await asyncio.gather(*map(ask, names), return_exceptions=True)


def down_until(end_s: float, status: int = 503) -> Fault:
    """Fine for 3 calls, then down until `end_s`."""

    def fault(service: Service, name: str, number: int) -> Exception | None:
        down = number > 3 and service.clock.at < end_s
        return TransientLlmError(f"HTTP {status}", trouble=trouble_of(status)) if down else None

    return fault


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_an_outage_within_the_limit_fails_no_call(status: int) -> None:
    access, service, watch = opened(down_until(300.0, status))
    news: list[OutageReport] = []
    watch.listen(news.append)
    results = await ask_all(access, service, 12)
    assert results == [f"call {index}" for index in range(12)]
    # The calls that were in flight, then single tries after growing waits.
    tries = [at for at, _ in service.calls if 1.0 < at < 300.0]
    assert 8 <= len(tries) <= 40
    gaps = [after - before for before, after in zip(tries, tries[1:], strict=False)]
    assert all(gap > 10 for gap in gaps[8:]) and max(gaps) <= 31
    assert [report.over for report in news] == [*[False] * (len(news) - 1), True]
    assert watch.present == []


async def test_during_an_outage_one_call_tries_and_the_others_wait() -> None:
    access, service, _ = opened(down_until(60.0), places=8)
    inside: list[int] = []
    real = service.fault

    def fault(service: Service, name: str, number: int) -> Exception | None:
        if 2.0 < service.clock.at < 60.0:
            inside.append(service.in_flight)
        return real(service, name, number)

    service.fault = fault
    await ask_all(access, service, 40)
    assert service.most == 8
    assert inside and set(inside) == {1}


async def test_a_longer_outage_fails_every_waiting_call_as_an_outage() -> None:
    access, service, watch = opened(down_until(10_000.0))
    results = await ask_all(access, service, 12)
    assert [str(result) for result in results if isinstance(result, str)] != []
    failed = [result for result in results if not isinstance(result, str)]
    assert len(failed) == 9 and {type(result) for result in failed} == {OutageError}
    assert "HTTP 503" in str(failed[0])
    assert LIMIT_S <= service.clock.at < LIMIT_S + 40
    assert watch.present == []
    # A later call begins anew.
    service.fault = lambda service, name, number: None
    assert await access.call(lambda: service("late")) == "late"


async def test_a_failure_while_others_are_answered_is_the_calls_own() -> None:
    def fault(service: Service, name: str, number: int) -> Exception | None:
        return TransientServiceError("it broke") if name == "call 2" else None

    access, service, _ = opened(fault)
    results = await ask_all(access, service, 8)
    assert [type(result) for result in results].count(TransientServiceError) == 1
    assert isinstance(results[2], TransientServiceError)
    assert service.clock.at < 10


async def test_failures_of_two_calls_are_their_own_in_the_end() -> None:
    def fault(service: Service, name: str, number: int) -> Exception | None:
        return TransientServiceError("it broke") if name in ("call 2", "call 3") else None

    access, service, _ = opened(fault)
    results = await ask_all(access, service, 30)
    failed = [index for index, result in enumerate(results) if not isinstance(result, str)]
    assert failed == [2, 3]
    assert service.clock.at < 60


async def test_a_call_that_fails_alone_for_long_is_given_up() -> None:
    """It may be the cause. The next one that fails shows that it is not."""

    def fault(service: Service, name: str, number: int) -> Exception | None:
        return TransientLlmError("HTTP 500") if number > 1 else None

    access, service, _ = opened(fault)
    await access.call(lambda: service("well"))
    with pytest.raises(LlmError, match="HTTP 500 .tried .* times in 10 minutes") as caught:
        await access.call(lambda: service("call"))
    assert not caught.value.transient
    assert LIMIT_S <= service.clock.at < LIMIT_S + 40
    with pytest.raises(OutageError):
        await access.call(lambda: service("other call"))


async def test_a_call_that_has_failed_alone_is_not_waited_for_again() -> None:
    def fault(service: Service, name: str, number: int) -> Exception | None:
        return TransientLlmError("HTTP 500") if name == "call 1" else None

    access, service, _ = opened(fault, places=1)
    calls = [access.call(lambda n=n: service(n), key=n) for n in ("call 1", "call 2", "call 3")]
    [failure, *_] = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(failure, TransientLlmError)
    at = service.clock.at
    with pytest.raises(TransientLlmError):
        await access.call(lambda: service("call 1"), key="call 1")
    assert service.clock.at < at + 1


@pytest.mark.parametrize("trouble", ["service", "overload"])
async def test_a_call_that_alone_is_refused_ends_after_many_tries(trouble: Trouble) -> None:
    refused = TransientServiceError("no", trouble=trouble)
    access, service, _ = opened(lambda service, name, number: refused if name == "poison" else None)

    async def others() -> None:
        while True:
            await access.call(lambda: service("other"))
            await service.clock.sleep(1.0)

    company = asyncio.create_task(others())
    with pytest.raises(TransientServiceError, match="no"):
        await access.call(lambda: service("poison"))
    company.cancel()
    assert sum(name == "poison" for _, name in service.calls) <= 3 * MOST_REFUSALS


@pytest.mark.parametrize("error", [LlmError("HTTP 400"), LostWorkerError("it died")])
async def test_other_failures_are_the_callers_at_once(error: Exception) -> None:
    access, service, _ = opened(lambda service, name, number: error)
    with pytest.raises(type(error)):
        await access.call(lambda: service("call"))
    assert len(service.calls) == 1


async def test_a_spent_quota_ends_every_wait_at_once() -> None:
    def fault(service: Service, name: str, number: int) -> Exception | None:
        return QuotaError("spent") if number > 2 else None

    access, service, _ = opened(fault, places=2)
    results = await ask_all(access, service, 20)
    assert {type(result) for result in results[2:]} <= {QuotaError, str}
    assert len(service.calls) <= 5
    assert service.clock.waits == []


@pytest.mark.parametrize("retry_after_s", [7.0, 300.0, 599.0])
async def test_the_wait_that_a_server_asks_for_is_kept(retry_after_s: float) -> None:
    def fault(service: Service, name: str, number: int) -> Exception | None:
        busy = TransientLlmError("429", retry_after_s=retry_after_s, trouble="overload")
        return busy if number == 1 else None

    access, service, _ = opened(fault)
    assert await access.call(lambda: service("call")) == "call"
    [(first, _), (second, _)] = service.calls
    assert retry_after_s <= second - first < retry_after_s + 1


async def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    busy = TransientLlmError("429", retry_after_s=LIMIT_S + 60, trouble="overload")
    access, service, _ = opened(lambda service, name, number: busy)
    with pytest.raises(OutageError, match="asks for a wait of 11 minutes"):
        await access.call(lambda: service("call"))
    assert service.clock.waits == []


async def test_abandoned_waits_end_at_once() -> None:
    access, service, watch = opened(down_until(10_000.0))
    watch.listen(lambda report: watch.abandon() if report.outage.tries == 4 else None)
    results = await ask_all(access, service, 12)
    assert {type(result) for result in results} == {str, OutageError}
    assert service.clock.at < 60


async def test_without_a_limit_each_failure_is_the_callers() -> None:
    access, service, _ = opened(down_until(10_000.0), limit_s=0.0)
    results = await ask_all(access, service, 6)
    assert [type(result) for result in results].count(TransientLlmError) == 3
    assert len(service.calls) == 6 and service.clock.waits == []


async def test_a_rate_limit_is_kept_with_few_refusals() -> None:
    """A server of 2 calls at a time: the limit adapts to it."""

    def fault(service: Service, name: str, number: int) -> Exception | None:
        busy = service.in_flight > 2
        return TransientLlmError("HTTP 429", trouble="overload") if busy else None

    access, service, _ = opened(fault, places=16)
    results = await ask_all(access, service, 200)
    assert all(isinstance(result, str) for result in results)
    assert len(service.calls) < 300


# -- the limit -------------------------------------------------------------------------------------


@given(
    ceiling=st.integers(1, 64),
    events=st.lists(st.booleans() | st.integers(0, 3), max_size=200),
)
def test_the_limit_stays_between_1_and_its_ceiling(ceiling: int, events: list[bool | int]) -> None:
    limit = AdaptiveLimit(ceiling)
    assert limit.places == ceiling
    for event in events:
        before, generation = limit.places, limit.generation
        if isinstance(event, bool):
            limit.increase()
            assert before <= limit.places <= before + 1
        else:
            limit.decrease(generation - event)
            halved = max(1, before // 2)
            assert limit.places in ((halved, halved + 1) if event == 0 else (before,))
            assert limit.generation == generation + (event == 0)
        assert 1 <= limit.places <= ceiling


def test_a_limits_worth_of_answers_raises_it_by_one() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(4):
        limit.decrease(limit.generation)
    assert limit.places == 4
    for _ in range(5):
        limit.increase()
    assert limit.places == 5


# -- turns -----------------------------------------------------------------------------------------


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
    access, opening = ServiceAccess("the service", places), asyncio.Event()
    passed: list[int] = []
    inside = most = 0

    async def pass_through(index: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        passed.append(index)
        await asyncio.sleep(0)
        inside -= 1

    holders = [asyncio.create_task(access.call(opening.wait)) for _ in range(places)]
    await asyncio.sleep(0)
    callers = [
        asyncio.create_task(access.call(lambda index=index: pass_through(index), priority))
        for index, priority in enumerate(priorities)
    ]
    await asyncio.sleep(0)
    for index in give_up & set(range(len(callers))):
        callers[index].cancel()
    opening.set()
    await asyncio.wait_for(asyncio.gather(*holders, *callers, return_exceptions=True), 60)
    stayed = [index for index in range(len(priorities)) if index not in give_up]
    assert passed == sorted(stayed, key=lambda index: (priorities[index], index))
    assert most <= places
    async with asyncio.timeout(60):
        await access.call(lambda: pass_through(99))  # every place was given back
