"""The gradient calculator: writes textual gradients from the evidence table."""

from __future__ import annotations

from collections.abc import Sequence

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import CritiqueRequested, Gradient, GradientsComputed, Message
from bigpe.agents.messages.plan import EVIDENCE_WORDED
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.llm_turns import llm_turn
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import LlmUsage
from bigpe.services.llm.service import LlmClient


class GradientCalculator(Actor):
    """Consumes CritiqueRequested, emits GradientsComputed and the LLM exchanges."""

    def __init__(
        self,
        journal: Journal,
        llm: LlmClient,
        *,
        sees: bool = False,
        style: ReasoningStyle,
        concurrency: int = 1,
        retry: RetryRule | None = None,
    ) -> None:
        """`sees`: whether the model accepts images; it then gets the best and the worst image."""
        super().__init__(
            "Words what made the difference in a batch",
            journal,
            concurrency=concurrency,
            retry=retry,
        )
        self._llm = llm
        self._sees = sees
        self._style = style

    @message_handler
    async def on_request(self, message: CritiqueRequested, ctx: MessageContext) -> None:
        """Write the gradients of the batch."""
        await self.perform(message, self._compute)

    async def _compute(self, message: CritiqueRequested) -> Sequence[Message]:
        gradients: list[Gradient] = []
        turns: list[Message] = []
        usage = LlmUsage()
        explained = await self._style.explain(self._llm, message, sees=self._sees)
        for index, worded in enumerate(explained):
            usage += worded.usage
            gradients.append(worded.gradient)
            if worded.turns or self._style.name == EVIDENCE_WORDED:
                exchange = (worded.turns, worded.usage, worded.effect_keys)
                turns.append(llm_turn(message, self.name, str(index), *exchange))
        return [GradientsComputed.make(message, gradients=tuple(gradients), usage=usage), *turns]
