"""The base class of every actor.

AutoGen only routes messages. `Actor` adds durable handling: a message is handled at most once, at
most `concurrency` steps run at the same time, and answers are committed before they are published.
A failure becomes a StepFailed in the transcript. A message without a handler is an error.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import structlog
from autogen_core import AgentId, AgentRuntime, MessageContext, RoutedAgent, TypeSubscription

from bigpe.agents.actors.journal import Journal
from bigpe.agents.campaign.plugin_state import Answer
from bigpe.agents.messages.core import Message, StepFailed
from bigpe.services.core.errors import PAUSES_RUN, STOPS_RUN, BigpeError, UnusableAnswerError
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import LlmUsage
from bigpe.services.store.caller_context import CallerContext, caller_context, unreported_usage

M = TypeVar("M", bound=Message)

log = structlog.get_logger("bigpe.role")

LOOK_UP_S = 0.25
"""Interval at which a waiting step checks whether the run is pausing, seconds."""


class _LeftOpenError(Exception):
    """The run pauses between two attempts of a step: the delivery stays open."""


class UnhandledMessageError(BigpeError):
    """An actor received a message that it has no handler for."""


class Actor(RoutedAgent):
    """An actor with one responsibility. Its message handlers call `perform` with the work to do."""

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
        """Register as the actor `name` on `runtime` and subscribe to these message kinds."""
        # register_instance would serialise each message three times, for AutoGen's logs.
        await runtime.register_agent_instance(self, AgentId(name, self._journal.run))
        for kind in kinds:
            await runtime.add_subscription(TypeSubscription(kind, name))

    @property
    def name(self) -> str:
        """The actor's name in the transcript."""
        return self.id.type

    async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> NoReturn:
        """Raise UnhandledMessageError; AutoGen would drop the message silently."""
        error = UnhandledMessageError(
            f"the actor {self.name!r} got a {type(message).__name__} and has no handler for it"
        )
        self._journal.fail(error)
        raise error

    async def perform(self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]) -> None:
        """Handle `message` once with `work`: commit its answers, then publish them."""
        async with self._slots:
            if not self._journal.begin():
                return  # the delivery stays open; resuming publishes it again
            try:
                await self._step(message, work)
            except _LeftOpenError:
                pass
            except PAUSES_RUN as error:
                if not self._journal.draining:  # else the run pauses already, and so the wait ended
                    self._journal.fail(error)
            except Exception as error:  # noqa: BLE001 - AutoGen would lose it
                # The store or the coordinator failed, so the failure cannot be recorded.
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
        """The actor's state after a step, to be stored in the same transaction; None: no state."""
        return None

    async def attempt(
        self, message: M, work: Callable[[M], Awaitable[Sequence[Message]]]
    ) -> Sequence[Message]:
        """Run `work` with retries. Returns its answers, or a StepFailed after the last attempt."""
        earlier: dict[str, LlmUsage] = {}  # usage in failed attempts, by request
        number = 1
        while True:
            with caller_context(self._journal.run, self.name, message.round) as spender:
                try:
                    return _with_usage(await work(message), unreported_usage(earlier, spender))
                except STOPS_RUN:
                    raise  # the delivery stays open
                except Exception as failure:  # noqa: BLE001 - it becomes a StepFailed
                    error = failure
            if not self._retry.allows(error, number):
                return self._last_failure(message, error, number, earlier, spender)
            if self._journal.draining:
                raise _LeftOpenError from error
            earlier |= spender.answers
            await self._report_retry(message, error, number, spender.lost)
            await self._sleep(self._retry.wait_s(error, number))
            number += 1

    def _last_failure(
        self,
        message: Message,
        error: Exception,
        attempt: int,
        earlier: Mapping[str, LlmUsage],
        last: CallerContext,
    ) -> Sequence[Message]:
        """The answers after the last attempt, with the usage of the whole step."""
        if not isinstance(error, BigpeError):
            trace = "".join(traceback.format_exception(error))
            log.error("step raised", actor=self.name, trace=trace)
        usage = last.lost + last.answered + unreported_usage(earlier, last)
        return self.given_up(
            message, self._failure(message, error, attempt, usage, will_retry=False)
        )

    def given_up(self, message: Message, failure: StepFailed) -> Sequence[Message]:
        """The answers after the last attempt: the failure, and results that do not depend on it."""
        return [failure]

    async def _sleep(self, seconds: float) -> None:
        """Wait before another attempt. Raises _LeftOpenError if the run pauses meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._journal.draining:
                raise _LeftOpenError
            await asyncio.sleep(min(left, LOOK_UP_S))

    async def _report_retry(
        self, message: Message, error: Exception, attempt: int, usage: LlmUsage
    ) -> None:
        failure = self._failure(message, error, attempt, usage, will_retry=True)
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
            scope=message.failure_scope(),
        )

    def _failed(
        self, message: Message, place: str, error: BaseException, attempt: int, **fields: Any
    ) -> StepFailed:
        """Make a StepFailed. `place` identifies the failure within its attempt."""
        return StepFailed.make(
            message,
            f"{self.name}/{message.mid}/{attempt}/{place}",
            step=message.mid,
            step_kind=message.kind,
            actor=self.name,
            error=type(error).__name__,
            cause=str(error) or type(error).__name__,
            attempt=attempt,
            **fields,
        )


def _with_usage(answers: Sequence[Message], usage: LlmUsage) -> Sequence[Message]:
    """`answers`, with `usage` added to the usage of the first answer."""
    if not (usage.calls and answers and isinstance(answers[0], Answer)):
        return answers
    first = answers[0].model_copy(update={"usage": answers[0].usage + usage})
    return [first, *answers[1:]]
