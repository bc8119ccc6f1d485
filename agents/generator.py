"""The Generator: rewrites each naive prompt of a batch under one instruction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from autogen_core import MessageContext, message_handler

from bigpe.agents.chat_form import llm_turn
from bigpe.agents.constraints import NONE, Constraints
from bigpe.agents.journal import Journal
from bigpe.agents.messages import (
    LlmTurn,
    Message,
    PromptsRewritten,
    RewriteRequested,
    RewriteTask,
    Rewritten,
)
from bigpe.agents.rewriting import Asks, rewrite
from bigpe.agents.role import RetryRule, Role
from bigpe.services.values import Instruction, LlmUsage


class Generator(Role):
    """Consumes RewriteRequested, emits PromptsRewritten and the LLM exchanges."""

    def __init__(
        self,
        journal: Journal,
        llm: Asks,
        *,
        constraints: Constraints = NONE,
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
        self._constraints = constraints

    @message_handler
    async def on_request(self, message: RewriteRequested, ctx: MessageContext) -> None:
        """Rewrite the batch."""
        await self.perform(message, self._rewrite_batch)

    async def _rewrite_batch(self, message: RewriteRequested) -> Sequence[Message]:
        # All are waited for, so that no call goes on after the step has failed.
        done = await asyncio.gather(
            *(self._rewrite_one(message, message.instruction, task) for task in message.tasks),
            return_exceptions=True,
        )
        if failure := next((one for one in done if isinstance(one, BaseException)), None):
            raise failure
        results = [one for one in done if not isinstance(one, BaseException)]
        answer = PromptsRewritten.make(
            message,
            instruction=message.instruction.id,
            rewrites=tuple(rewritten for rewritten, _, _ in results),
            usage=sum((used for _, _, used in results), LlmUsage()),
        )
        return [answer, *(turn for _, turn, _ in results)]

    async def _rewrite_one(
        self, message: RewriteRequested, instruction: Instruction, task: RewriteTask
    ) -> tuple[Rewritten, LlmTurn, LlmUsage]:
        done = await rewrite(self._llm, instruction, task.naive, task.llm_seed, self._constraints)
        place = f"{task.image_seed}/{task.naive}"
        rewritten = Rewritten(
            naive=task.naive,
            image_seed=task.image_seed,
            text=done.text,
            fallback=done.fallback,
            attempts=done.attempts,
        )
        turn = llm_turn(message, self.name, place, done.turns, done.usage)
        return rewritten, turn, done.usage
