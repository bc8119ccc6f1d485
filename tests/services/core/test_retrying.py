"""Retries: which failures are repeated, how often, and after which waits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.services.core.errors import (
    BigpeError,
    GivenUpError,
    LostWorkerError,
    RenderError,
    StoreError,
    TransientLlmError,
    TransientServiceError,
    UnusableAnswerError,
)
from bigpe.services.core.retrying import RetryRule, backoff_s, retry

NO_WAIT = RetryRule(attempts=4, first_wait_s=0.0, longest_wait_s=0.0)


class Failing:
    """Fails with each of the errors in turn, then returns the number of calls."""

    def __init__(self, *errors: Exception) -> None:
        self.calls = 0
        self._errors = [*errors]

    async def __call__(self) -> int:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.calls


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, in seconds, none of which takes place."""
    seconds: list[float] = []

    async def note(wait_s: float) -> None:
        seconds.append(wait_s)

    monkeypatch.setattr(asyncio, "sleep", note)
    return seconds


async def test_transient_failures_are_repeated(waits: list[float]) -> None:
    work = Failing(TransientServiceError("busy"), UnusableAnswerError("no JSON", raw="{"))
    assert await retry(work, NO_WAIT) == 3
    assert waits == [0.0, 0.0]


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (TransientServiceError("busy"), 4),
        (LostWorkerError("it died"), 2),
        (RenderError("no picture"), 1),
        (GivenUpError("it keeps dying"), 1),
        (StoreError("disk full"), 1),
        (ZeroDivisionError("a bug"), 1),
    ],
)
async def test_the_last_failure_propagates(
    waits: list[float], error: Exception, calls: int
) -> None:
    work = Failing(*[error] * 9)
    with pytest.raises(type(error)):
        await retry(work, NO_WAIT)
    assert work.calls == calls and len(waits) == calls - 1


@pytest.mark.parametrize(("asked_s", "wait_s"), [(None, 0.0), (9.0, 9.0), (9e9, 120.0)])
async def test_retry_after_is_honoured_up_to_a_limit(
    waits: list[float], asked_s: float | None, wait_s: float
) -> None:
    assert await retry(Failing(TransientLlmError("busy", retry_after_s=asked_s)), NO_WAIT) == 2
    assert waits == [wait_s]


@given(
    failures=st.integers(1, 10**6),
    first_s=st.floats(0.001, 10.0),
    longest_s=st.floats(0.001, 1000.0),
)
def test_backoff_doubles_up_to_its_limit(failures: int, first_s: float, longest_s: float) -> None:
    wait_s = backoff_s(failures, first_s=first_s, longest_s=longest_s)
    following_s = backoff_s(failures + 1, first_s=first_s, longest_s=longest_s)
    assert 0 < wait_s <= following_s <= longest_s
    assert following_s in (longest_s, pytest.approx(2 * wait_s))


@given(attempt=st.integers(1, 10**6), asked_s=st.none() | st.floats(0.0, 1e9))
def test_jitter_adds_to_retry_after(attempt: int, asked_s: float | None) -> None:
    rule = RetryRule()
    error: BigpeError = TransientLlmError("busy", retry_after_s=asked_s)
    floor_s = min(asked_s or 0.0, rule.longest_retry_after_s)
    assert floor_s <= rule.wait_s(error, attempt) <= floor_s + rule.longest_wait_s
