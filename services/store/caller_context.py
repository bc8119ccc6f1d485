"""For whom a call of a model is made, and how long a model worked for it: known by context, so that
no call has to be told."""

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
    """A step of an actor, and what it has asked language models for so far."""

    run: str
    actor: str
    round: int
    answered: LlmUsage = LlmUsage()
    """Of usable answers: a step that is tried again asks for most of them again, and has them."""
    answers: dict[str, LlmUsage] = field(default_factory=dict[str, LlmUsage])
    """The same, by request."""
    lost: LlmUsage = LlmUsage()
    """Of calls without a usable answer."""


_SPENDER: ContextVar[CallerContext | None] = ContextVar("spender", default=None)


@contextmanager
def caller_context(run: str, actor: str, round: int) -> Generator[CallerContext]:
    """Calls made inside, and in tasks that are started inside, are this spender's."""
    spender = CallerContext(run, actor, round)
    token = _SPENDER.set(spender)
    try:
        yield spender
    finally:
        _SPENDER.reset(token)


def current_caller() -> CallerContext | None:
    """Whose calls are being made; None outside of a run."""
    return _SPENDER.get()


def record_answered_usage(key: str, usage: LlmUsage) -> None:
    """The current spender was answered; `key`: of the request."""
    if spender := _SPENDER.get():
        spender.answered += usage
        spender.answers[key] = usage


def unreported_usage(earlier: Mapping[str, LlmUsage], last: CallerContext) -> LlmUsage:
    """Answers that earlier attempts of a step had, and the last did not ask for: a model that did
    better at something else led it another way."""
    return sum((usage for key, usage in earlier.items() if key not in last.answers), LlmUsage())


def record_failed_usage(usage: LlmUsage) -> None:
    """A call of the current spender brought nothing that can be used."""
    if spender := _SPENDER.get():
        spender.lost += usage


@dataclass
class Watch:
    """How long a model worked for one call, seconds; None while nobody has told."""

    seconds: float | None = None


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching() -> Generator[Watch]:
    """Collect what `Timed.note` tells inside."""
    watch = Watch()
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


@dataclass(frozen=True)
class Timed(Generic[Res]):
    """A result out of a batch, with its share of the batch's time."""

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
    """`work`, with the time that it took shared among the requests of the batch."""

    async def do(requests: Sequence[Req]) -> Sequence[Timed[Res] | Exception]:
        start = time.monotonic()
        results = await work(requests)
        share = (time.monotonic() - start) / max(len(requests), 1)
        return [
            result if isinstance(result, Exception) else Timed(result, share) for result in results
        ]

    return do
