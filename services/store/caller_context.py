"""The caller context: run, actor and round of a model call, and the time that a model spent on it.

Context variables carry both, so calls need no further arguments.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bigpe.services.core.values import LlmUsage

Req = TypeVar("Req")
Res = TypeVar("Res")


@dataclass
class CallerContext:
    """A step of an actor with its language model usage so far."""

    run: str
    actor: str
    round: int
    answered: LlmUsage = LlmUsage()
    """Usage of calls with usable answers. A retried step finds most of them in the cache."""
    answers: dict[str, LlmUsage] = field(default_factory=dict[str, LlmUsage])
    """Usage of calls with usable answers, by key of the request."""
    lost: LlmUsage = LlmUsage()
    """Usage of calls without a usable answer."""


_SPENDER: ContextVar[CallerContext | None] = ContextVar("spender", default=None)


@contextmanager
def caller_context(run: str, actor: str, round: int) -> Generator[CallerContext]:
    """Assign the calls made inside, also by tasks started inside, to this step."""
    spender = CallerContext(run, actor, round)
    token = _SPENDER.set(spender)
    try:
        yield spender
    finally:
        _SPENDER.reset(token)


def current_caller() -> CallerContext | None:
    """The current context; None outside of a run."""
    return _SPENDER.get()


def record_answered_usage(key: str, usage: LlmUsage) -> None:
    """Record the usage of a usable answer; `key` is the key of the request."""
    if spender := _SPENDER.get():
        spender.answered += usage
        spender.answers[key] = usage


def unreported_usage(earlier: Mapping[str, LlmUsage], last: CallerContext) -> LlmUsage:
    """Usage of answers of earlier attempts that the last attempt did not request again."""
    return sum((usage for key, usage in earlier.items() if key not in last.answers), LlmUsage())


def record_failed_usage(usage: LlmUsage) -> None:
    """Record the usage of a call without a usable answer."""
    if spender := _SPENDER.get():
        spender.lost += usage


@dataclass
class Watch:
    """The time that a model spent on one call, seconds; None until it is recorded."""

    seconds: float | None = None


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching() -> Generator[Watch]:
    """Collect the time that `Timed.note` records inside."""
    watch = Watch()
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


@dataclass(frozen=True)
class Timed(Generic[Res]):
    """A result of a batch with its share of the batch's time."""

    result: Res
    seconds: float

    def note(self) -> Res:
        """The result; its time is added to the watch of the caller."""
        if watch := _WATCH.get():
            watch.seconds = self.seconds
        return self.result


def timed(
    work: Callable[[Sequence[Req]], Awaitable[Sequence[Res | Exception]]],
) -> Callable[[Sequence[Req]], Awaitable[Sequence[Timed[Res] | Exception]]]:
    """`work` with results that carry equal shares of its time."""

    async def do(requests: Sequence[Req]) -> Sequence[Timed[Res] | Exception]:
        start = time.monotonic()
        results = await work(requests)
        share = (time.monotonic() - start) / max(len(requests), 1)
        return [
            result if isinstance(result, Exception) else Timed(result, share) for result in results
        ]

    return do
