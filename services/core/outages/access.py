"""Access to one service: how many calls are in flight, and how calls wait through an outage.

A failure alone does not say whether the call or the service is its cause. The next answer decides:

- A call that begins later is answered, and no other has failed: the failure was the call's own.
  Its caller gets it, and may retry. So does a call that fails again, if only such calls fail.
- The next try fails, too: it is an outage. One call after the other tries the service, after
  growing waits, and all others wait for the first answer. No failure is counted meanwhile.
- The outage lasts longer than the rule allows: every waiting call gets OutageError.

A service that refuses calls because they are too many gets fewer at a time, see `adaptive_limit`.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from bigpe.services.core.errors import (
    PAUSES_RUN,
    LlmError,
    LostWorkerError,
    OutageError,
    ServiceError,
    TransientError,
    TransientLlmError,
)
from bigpe.services.core.outages.adaptive_limit import AdaptiveLimit
from bigpe.services.core.outages.watch import NO_WAITING, Outage, OutageWatch, abandoned_wait

T = TypeVar("T")

MOST_REFUSALS = 30
"""Tries of a call that a service refuses while it answers others; then it is the call's failure."""

log = structlog.get_logger("bigpe.outages")


@dataclass(eq=False)
class _Call:
    """A call and its failures."""

    priority: int
    key: str
    tries: int = 0
    """Failed tries."""
    refusals: int = 0
    """Failed tries after which the service answered another call."""
    failure: TransientError | None = None
    """The last failure."""
    failed_at: int = 0
    """Number of calls that had begun at the last failure."""
    alone: bool = True
    """Whether no other call failed between two answers."""


@dataclass(eq=False)
class _Turn:
    """A call that waits for its turn."""

    call: _Call
    order: int
    granted: asyncio.Future[None]


class ServiceAccess:
    """Bounds, delays and repeats the calls of one service."""

    def __init__(self, service: str, ceiling: int, watch: OutageWatch | None = None) -> None:
        """`service`: kind and address, for people; `ceiling`: most calls in flight.

        Without `watch` nothing is waited for: each failure is the caller's.
        """
        self._service = service
        self._limit = AdaptiveLimit(ceiling)
        self._watch = watch or OutageWatch(NO_WAITING)
        self._waiting: list[_Turn] = []
        self._count = itertools.count()
        self._in_flight = 0
        self._begun = 0
        """Number of calls that have begun."""
        self._answered = 0
        """Number of the newest call that was answered."""
        self._outage: Outage | None = None
        self._outage_from = 0
        """Number of calls that had begun at the first failure of the outage."""
        self._given_up_at = 0
        """Number of the newest answered call when a call was given up as its own cause."""
        self._failing: list[_Call] = []
        """The calls that failed since the last answer."""
        self._suspects: set[str] = set()
        """Keys of calls that failed while others were answered."""
        self._next_try = 0.0
        """Clock time before which an outage is not probed."""
        self._not_before = 0.0
        """Clock time before which the server asked for no call."""
        self._watch.on_abandon(self._abandon)

    @property
    def places(self) -> int:
        """Calls that may be in flight now."""
        return 1 if self._outage else self._limit.places

    async def call(self, work: Callable[[], Awaitable[T]], priority: int = 0, key: str = "") -> T:
        """The result of `work`, once the service answers.

        Raises OutageError after the longest outage, or if the waits are abandoned; QuotaError at
        once; other errors of `work` as they are.

        Args:
            work: Makes the call.
            priority: Lower priorities go first.
            key: Equal for equal calls, so that a call which failed on its own is known again.
        """
        call = _Call(priority, key or uuid.uuid4().hex)
        while True:
            async with self._turn(call):
                await self._own_wait(call)
                self._begun += 1
                number, generation = self._begun, self._limit.generation
                try:
                    result = await work()
                except LostWorkerError:
                    raise  # a process of this machine, which is started again
                except TransientError as error:
                    self._blame(call, error)
                    self._fail(call, error, number, generation)
                except PAUSES_RUN as error:
                    self._give_up(error)
                    raise
                except ServiceError:
                    self._answer(number)  # a refusal of this call is an answer, too
                    raise
                else:
                    self._suspects.discard(call.key)
                    self._answer(number)
                    return result

    # -- turns --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, call: _Call) -> AsyncGenerator[None]:
        """Wait for a place and the next time for a try, and hold the place inside the block."""
        if self._in_flight < self.places:
            self._in_flight += 1
        else:
            turn = _Turn(call, next(self._count), asyncio.get_running_loop().create_future())
            self._waiting.append(turn)
            try:
                await turn.granted
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif turn.granted.done() and not turn.granted.cancelled():
                    self._leave()  # the place was granted before the cancellation
                raise
        try:
            clock = self._watch.clock
            while (left := max(self._next_try, self._not_before) - clock.now()) > 0:
                await self._watch.sleep(left)
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._in_flight -= 1
        self._grant()

    def _grant(self) -> None:
        """Grant free places. During an outage other calls try first: one may be its own cause."""
        while self._waiting and self._in_flight < self.places:
            down = self._outage is not None
            turn = min(
                self._waiting,
                key=lambda turn: (turn.call.tries if down else 0, turn.call.priority, turn.order),
            )
            self._waiting.remove(turn)
            if not turn.granted.done():
                self._in_flight += 1
                turn.granted.set_result(None)

    async def _own_wait(self, call: _Call) -> None:
        """Before another try while others are answered: wait, or raise the call's own failure."""
        if call.failure is None or self._answered <= call.failed_at:
            return
        call.refusals += 1
        if call.failure.trouble == "call":
            self._suspects.add(call.key)
            if call.alone:
                raise call.failure
        if call.refusals >= MOST_REFUSALS:
            raise call.failure
        await self._watch.sleep(self._watch.rule.wait_s(call.refusals))

    # -- what the service did -----------------------------------------------------------------

    def _blame(self, call: _Call, error: TransientError) -> None:
        """Note the failure with the call, and whether other calls fail, too."""
        call.tries, call.failure, call.failed_at = call.tries + 1, error, self._begun
        if call not in self._failing:
            self._failing.append(call)
        for failing in self._failing:
            failing.alone = len(self._failing) == 1

    def _answer(self, number: int) -> None:
        self._answered = max(self._answered, number)
        self._limit.increase()
        if number > self._outage_from:
            self._end_outage()
        self._grant()

    def _fail(self, call: _Call, error: TransientError, number: int, generation: int) -> None:
        """Note a failed try. Raises it, or OutageError, if there is nothing to wait for."""
        rule, now = self._watch.rule, self._watch.clock.now()
        if error.trouble == "overload":
            self._limit.decrease(generation)
        if not rule.limit_s:
            raise error
        if self._watch.abandoned:
            raise abandoned_wait() from error
        if all(failing.key in self._suspects for failing in self._failing):
            self._end_outage()
            raise error
        log.warning("a service does not answer", service=self._service, cause=str(error))
        before = self._outage
        outage = before or Outage(self._service, str(error), now, 0, now)
        left = outage.since + rule.limit_s - now
        self._not_before = max(self._not_before, now + (error.retry_after_s or 0.0))
        if left <= 0 or self._not_before - now > left:
            failure = self._last_failure(call, error, self._not_before - outage.since)
            self._give_up(failure)
            raise failure from error
        if before is None:
            self._outage_from = self._begun
        elif number <= self._outage_from:
            return  # it began before the outage did, so it is no further try
        tries = outage.tries + 1
        self._next_try = now + min(rule.wait_s(tries), left)
        next_try = max(self._next_try, self._not_before)
        self._outage = Outage(self._service, str(error), outage.since, tries, next_try)
        self._watch.note(self._outage)

    def _end_outage(self) -> None:
        self._outage, self._failing, self._next_try = None, [], 0.0
        self._watch.end(self._service)

    def _give_up(self, error: ServiceError) -> None:
        """Let every waiting call fail as `error` does."""
        self._end_outage()
        self._not_before = 0.0
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.granted.done():
                turn.granted.set_exception(type(error)(str(error)))

    def _abandon(self) -> None:
        if self._outage is not None:
            self._give_up(abandoned_wait())

    def _last_failure(self, call: _Call, error: TransientError, wanted_s: float) -> ServiceError:
        """The error at the end of the longest wait, with cause, place and remedy.

        A single call that fails may be the cause, and would pause the run again and again. So it
        fails by itself, once between two answers.
        """
        limit_s = self._watch.rule.limit_s
        if call.alone and error.trouble == "call" and self._answered > self._given_up_at:
            self._given_up_at = self._answered
            kind = LlmError if isinstance(error, TransientLlmError) else ServiceError
            return kind(f"{error} (tried {call.tries} times in {limit_s / 60:g} minutes)")
        why = f"no call was answered for {limit_s / 60:g} minutes"
        if wanted_s > limit_s:
            why = (
                f"it asks for a wait of {wanted_s / 60:.3g} minutes, {limit_s / 60:g} are the most"
            )
        return OutageError(
            f"{error} ({self._service}: {why}; [run] outage_minutes sets that). Nothing is lost: "
            "go on once it answers"
        )
