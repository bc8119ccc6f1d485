"""Retries of transient failures: one rule for actors, evaluations and `bigpe refine`.

It is for failures of a call. An outage of a service is waited for below it, see `outages.access`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from bigpe.services.core.errors import (
    BigpeError,
    LostWorkerError,
    TransientError,
)

T = TypeVar("T")

LOST_ATTEMPTS = 2
"""Attempts of a call that loses its model's process each time: the call itself is the cause."""
MAX_DOUBLINGS = 60
"""Bounds the exponent of a wait, so that no number of failures overflows a float."""


@dataclass(frozen=True)
class RetryRule:
    """Number of attempts of a call, and the waits between them."""

    attempts: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    longest_retry_after_s: float = 120.0
    """Limit of a server's Retry-After. The jittered wait is added to it."""

    def allows(self, error: BaseException, attempt: int) -> bool:
        """Return whether another attempt may follow attempt number `attempt` (from 1)."""
        if not (isinstance(error, BigpeError) and error.transient):
            return False
        lost = isinstance(error, LostWorkerError)
        return attempt < (min(self.attempts, LOST_ATTEMPTS) if lost else self.attempts)

    def wait_s(self, error: BaseException, attempt: int) -> float:
        """Return the wait before the next attempt: Retry-After plus a backoff with full jitter."""
        retry_after = error.retry_after_s if isinstance(error, TransientError) else None
        longest = backoff_s(attempt, first_s=self.first_wait_s, longest_s=self.longest_wait_s)
        return min(retry_after or 0.0, self.longest_retry_after_s) + random.uniform(0.0, longest)


def backoff_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Return the wait in seconds after `failures` failures in a row (from 1), doubled each time."""
    return min(first_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS), longest_s)


async def all_results(works: Iterable[Awaitable[T]]) -> list[T]:
    """The results of `works`, in order.

    The first error is raised only after all works have ended, so that what they pay for is stored.
    """
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def retry(work: Callable[[], Awaitable[T]], rule: RetryRule) -> T:
    """Return the result of `work`. Transient failures are repeated; the last one propagates."""
    attempt = 1
    while True:
        try:
            return await work()
        except BigpeError as error:
            if not rule.allows(error, attempt):
                raise
            wait_s = rule.wait_s(error, attempt)
        await asyncio.sleep(wait_s)
        attempt += 1
