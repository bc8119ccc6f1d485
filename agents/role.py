"""The base of every actor: strict, bounded, durable.

AutoGen routes messages; it does not serialise an actor's work, bound it, keep it or report its
failures. This class does: a message is handled at most once, never by more than `concurrency`
steps at a time, its answers are committed before they are published, and a failure is a
StepFailed in the transcript instead of a log line. A message without a handler is an error.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import structlog
from autogen_core import AgentId, AgentRuntime, MessageContext, RoutedAgent, TypeSubscription
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random_exponential,
)
from tenacity.wait import wait_base

from bigpe.agents.gating import Answer
from bigpe.agents.journal import Journal
from bigpe.agents.messages import Message, RenderRequested, ScoreRequested, StepFailed
from bigpe.services.errors import (
    STOPS_RUN,
    BigpeError,
    LostWorkerError,
    TransientLlmError,
    UnusableAnswerError,
)
from bigpe.services.spending import spending, unheard
from bigpe.services.values import LlmUsage

M = TypeVar("M", bound=Message)

log = structlog.get_logger("bigpe.role")

LOST_ATTEMPTS = 2
"""Of a step that loses its model's process each time: it is to blame itself."""
LOOK_UP_S = 0.25
"""How often a waiting step looks whether the run is pausing."""


class _LeftOpenError(Exception):
    """The run is pausing in the middle of a step's retries: the delivery stays open."""


class UnhandledMessageError(BigpeError):
    """An actor received a message that it has no handler for."""


@dataclass(frozen=True)
class RetryRule:
    """How often a transient failure is tried again, and how long to wait in between."""

    attempts: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    longest_told_s: float = 120.0
    """Of a server's Retry-After; the wait above, with its jitter, comes on top."""


class Backoff(wait_base):
    """Jittered exponential backoff, after the time that the server itself asked for."""

    def __init__(self, rule: RetryRule) -> None:
        self._backoff = wait_random_exponential(rule.first_wait_s, rule.longest_wait_s)
        self._longest_told_s = rule.longest_told_s

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        told = error.retry_after_s or 0.0 if isinstance(error, TransientLlmError) else 0.0
        return min(told, self._longest_told_s) + self._backoff(retry_state)


class Role(RoutedAgent):
    """An actor with one responsibility. Handlers call `perform` with the method that does it."""

    def __init__(
        self,
        description: str,
        journal: Journal,
        *,
        concurrency: int = 1,
        retry: RetryRule | None = None,
    ) -> None:
        super().__init__(description)
        self._journal = journal
        self._slots = asyncio.Semaphore(concurrency)
        self._retry = retry or RetryRule()

    async def join(self, runtime: AgentRuntime, name: str, kinds: Sequence[str]) -> None:
        """Become the actor `name` on `runtime`, subscribed to these message kinds."""
        # Not by register_instance: it has AutoGen serialise each message three times, for its logs.
        await runtime.register_agent_instance(self, AgentId(name, self._journal.run))
        for kind in kinds:
            await runtime.add_subscription(TypeSubscription(kind, name))

    @property
    def name(self) -> str:
        """The actor's name in the transcript."""
        return self.id.type

    async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> NoReturn:
        """A silent loss in AutoGen; an error here."""
        error = UnhandledMessageError(
            f"the actor {self.name!r} got a {type(message).__name__} and has no handler for it"
        )
        self._journal.fail(error)
        raise error

    async def perform(self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]) -> None:
        """Handle `message` by `work`, once: commit what it answers, then publish that."""
        async with self._slots:
            if not self._journal.begin():
                return  # the delivery stays open; resuming publishes it again
            try:
                await self._step(message, work)
            except _LeftOpenError:
                pass
            except Exception as error:  # noqa: BLE001 - AutoGen would lose it
                # The store failed, or the coordinator did: nothing can be recorded any more.
                self._journal.fail(error)
            finally:
                self._journal.end()

    async def _step(self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]) -> None:
        if await self._journal.is_done(message.mid, self.name):
            return
        start = time.monotonic()
        outgoing = await self.attempt(message, work)
        await self._journal.conclude(
            self.name,
            outgoing,
            message,
            ms=1000 * (time.monotonic() - start),
            snapshot=self.snapshot(),
        )

    def snapshot(self) -> str | None:
        """Called once a message was worked on: the actor's state with it, to be kept in the same
        transaction, or None."""
        return None

    async def attempt(
        self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]
    ) -> Sequence[Message]:
        """The answers of `work`, tried again while it fails for a while; else a StepFailed."""
        attempts = 0
        first: list[Exception] = []
        heard: dict[str, LlmUsage] = {}
        with spending(self._journal.run, self.name, message.round) as spender:
            try:
                return await work(message)  # as most do; a loop of retries costs more than a step
            except Exception as error:  # noqa: BLE001 - raised again as the first trial's
                first.append(error)

        async def report(state: RetryCallState) -> None:
            heard.update(spender.heard)
            await self._report_retry(message, state, spender.lost)

        try:
            async for trial in AsyncRetrying(
                stop=self._is_last,
                wait=Backoff(self._retry),
                retry=retry_if_exception(self._may_retry),
                before_sleep=report,
                sleep=self._sleep,
                reraise=True,
            ):
                with trial:
                    attempts = trial.retry_state.attempt_number
                    if first:
                        raise first.pop()
                    with spending(self._journal.run, self.name, message.round) as spender:
                        return _counting(await work(message), unheard(heard, spender))
        except (*STOPS_RUN, _LeftOpenError):
            raise  # the delivery stays open
        except Exception as error:
            if _is_transient(error) and attempts < self._attempts(error):
                raise _LeftOpenError from error
            if not isinstance(error, BigpeError):
                log.error("step raised", actor=self.name, trace=traceback.format_exc())
            usage = spender.lost + spender.answered + unheard(heard, spender)
            return self.given_up(
                message, self._failure(message, error, attempts, usage, will_retry=False)
            )
        raise AssertionError("a retry loop either returns or raises")

    def given_up(self, message: Message, failure: StepFailed) -> Sequence[Message]:
        """What is answered once no attempt is left: the failure, and what was achieved anyway."""
        return [failure]

    def _may_retry(self, error: BaseException) -> bool:
        return _is_transient(error) and not self._journal.draining

    def _attempts(self, error: BaseException | None) -> int:
        lost = isinstance(error, LostWorkerError)
        return min(self._retry.attempts, LOST_ATTEMPTS) if lost else self._retry.attempts

    def _is_last(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return state.attempt_number >= self._attempts(error)

    async def _sleep(self, seconds: float) -> None:
        """Wait before another attempt; a run that pauses meanwhile leaves the step open."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._journal.draining:
                raise _LeftOpenError
            await asyncio.sleep(min(left, LOOK_UP_S))

    async def _report_retry(self, message: Message, state: RetryCallState, usage: LlmUsage) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            failure = self._failure(message, error, state.attempt_number, usage, will_retry=True)
            await self._journal.commit(self.name, [failure])
            await self._journal.publish(self.name, [failure])

    def _failure(
        self,
        message: Message,
        error: BaseException,
        attempt: int,
        usage: LlmUsage,
        *,
        will_retry: bool,
    ) -> StepFailed:
        return self._failed(
            message,
            "retry" if will_retry else "final",
            error,
            attempt,
            will_retry=will_retry,
            raw=error.raw if isinstance(error, UnusableAnswerError) else None,
            usage=usage,
            **_picture(message),
        )

    def _failed(
        self, message: Message, place: str, error: BaseException, attempt: int, **told: Any
    ) -> StepFailed:
        """`place`: which failure of that attempt it is; `told`: the other fields."""
        return StepFailed.make(
            message,
            f"{self.name}/{message.mid}/{attempt}/{place}",
            step=message.mid,
            step_kind=message.kind,
            actor=self.name,
            error=type(error).__name__,
            cause=str(error) or type(error).__name__,
            attempt=attempt,
            **told,
        )


def _counting(answers: Sequence[Message], usage: LlmUsage) -> Sequence[Message]:
    """`answers`, the first of which tells this use of a language model, too."""
    if not (answers and usage.calls and isinstance(answers[0], Answer)):
        return answers
    first = answers[0].model_copy(update={"usage": answers[0].usage + usage})
    return [first, *answers[1:]]


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, BigpeError) and error.transient


def _picture(message: Message) -> dict[str, Any]:
    if isinstance(message, RenderRequested | ScoreRequested):
        return {"purpose": message.purpose, "naive": message.naive, "seed": message.seed}
    return {}
