"""The Generator: rewrites each naive prompt of a batch under one instruction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import (
    LlmTurn,
    Message,
    PromptsRewritten,
    RewriteRequested,
    RewriteTask,
    Rewritten,
    StepFailed,
)
from bigpe.agents.messages.failure_scope import PromptLost
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.llm_turns import llm_turn
from bigpe.services.core.errors import STOPS_RUN, BigpeError, LostWorkerError
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import Instruction, LlmUsage
from bigpe.services.llm.service import LlmClient


class _Done(NamedTuple):
    rewritten: Rewritten
    turn: LlmTurn
    usage: LlmUsage


class _Try(NamedTuple):
    """The results of the last attempt at a batch."""

    done: list[_Done]
    failed: dict[RewriteTask, BaseException]


class Generator(Actor):
    """Consumes RewriteRequested, emits PromptsRewritten and the LLM exchanges."""

    def __init__(
        self,
        journal: Journal,
        llm: LlmClient,
        *,
        style: ReasoningStyle,
        concurrency: int = 1,
        retry: RetryRule | None = None,
    ) -> None:
        super().__init__(
            "Rewrites naive prompts under an instruction",
            journal,
            concurrency=concurrency,
            retry=retry,
        )
        self._llm = llm
        self._style = style
        self._tries: dict[str, _Try] = {}
        """The last failed attempt of each step, by message id."""

    @message_handler
    async def on_request(self, message: RewriteRequested, ctx: MessageContext) -> None:
        """Rewrite the batch."""
        await self.perform(message, self._rewrite_batch)

    async def _rewrite_batch(self, message: RewriteRequested) -> Sequence[Message]:
        # gather waits for every call, so no call runs after the step has failed.
        done = await asyncio.gather(
            *(self._rewrite_one(message, message.instruction, task) for task in message.tasks),
            return_exceptions=True,
        )
        failed = {
            task: result
            for task, result in zip(message.tasks, done, strict=True)
            if isinstance(result, BaseException)
        }
        results = [result for result in done if not isinstance(result, BaseException)]
        if failed:
            self._tries[message.mid] = _Try(results, failed)
            raise min(failed.values(), key=_urgency)
        self._tries.pop(message.mid, None)
        return _answers(message, results)

    def given_up(self, message: Message, failure: StepFailed) -> Sequence[Message]:
        """A failed prompt never fails its batch: the rewrites of the other prompts are kept."""
        last = self._tries.pop(message.mid, None)
        if last is None or not last.done or not isinstance(message, RewriteRequested):
            return [failure]
        answer, *turns = _answers(message, last.done)
        usage = failure.usage - answer.usage
        failures: list[Message] = []
        for task, error in last.failed.items():
            failures.append(
                self._failed(
                    message,
                    f"{task.image_seed}/{task.naive}",
                    error,
                    failure.attempt,
                    will_retry=False,
                    scope=PromptLost(naive=task.naive, seed=task.image_seed),
                    usage=LlmUsage() if failures else usage,
                )
            )
        # Failures come first: the round's usage must be complete before an image can end the round.
        return [*failures, answer, *turns]

    async def _rewrite_one(
        self, message: RewriteRequested, instruction: Instruction, task: RewriteTask
    ) -> _Done:
        done = await self._style.rewrite(self._llm, instruction, task.naive, task.llm_seed)
        place = f"{task.image_seed}/{task.naive}"
        rewritten = Rewritten(
            naive=task.naive,
            image_seed=task.image_seed,
            text=done.text,
            fallback=done.fallback,
            fault=done.fault,
            attempts=done.attempts,
            negative=done.negative,
            notes=done.notes,
        )
        turn = llm_turn(message, self.name, place, done.turns, done.usage, done.effect_keys)
        return _Done(rewritten, turn, done.usage)


def _answers(
    message: RewriteRequested, done: Sequence[_Done]
) -> tuple[PromptsRewritten, *tuple[LlmTurn, ...]]:
    answer = PromptsRewritten.make(
        message,
        instruction=message.instruction.id,
        rewrites=tuple(item.rewritten for item in done),
        usage=sum((item.usage for item in done), LlmUsage()),
    )
    return answer, *(item.turn for item in done)


def _urgency(error: BaseException) -> int:
    """Sort key of failures; the lowest decides about the step: stop, transient, lost, permanent."""
    if not isinstance(error, Exception) or isinstance(error, STOPS_RUN):
        return 0
    if isinstance(error, BigpeError) and error.transient:
        return 2 if isinstance(error, LostWorkerError) else 1
    return 3
