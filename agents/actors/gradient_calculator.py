"""The gradient calculator: writes textual gradients from the evidence table."""

from __future__ import annotations

from collections.abc import Sequence

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import CritiqueRequested, Gradient, GradientsComputed, Message
from bigpe.agents.reasoning.evidence_worded.gradient import sample_evidence, word_gradient
from bigpe.agents.reasoning.llm_turns import llm_turn
from bigpe.agents.reasoning.rewriting import LlmClient
from bigpe.agents.reasoning.rules import EMBEDDED_GRADIENTS, RoleRules
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import LlmUsage, derive_seed


class GradientCalculator(Actor):
    """Consumes CritiqueRequested, emits GradientsComputed and the LLM exchanges."""

    def __init__(
        self,
        journal: Journal,
        llm: LlmClient,
        *,
        sees: bool = False,
        rules: RoleRules = EMBEDDED_GRADIENTS,
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
        self._rules = rules

    @message_handler
    async def on_request(self, message: CritiqueRequested, ctx: MessageContext) -> None:
        """Write the gradients of the batch."""
        await self.perform(message, self._compute)

    async def _compute(self, message: CritiqueRequested) -> Sequence[Message]:
        gradients: list[Gradient] = []
        turns: list[Message] = []
        usage = LlmUsage()
        images = [image for image in (message.best_image, message.worst_image) if image]
        samples = sample_evidence(
            message.rows, message.instruction, count=message.improvements, seed=message.seed
        )
        for index, rows in enumerate(samples):
            seed = derive_seed(message.seed, index)
            worded = await word_gradient(
                self._llm,
                rows,
                message.best,
                message.worst,
                message.professional,
                seed,
                images if self._sees else (),
                self._rules,
            )
            usage += worded.usage
            gradients.append(
                Gradient(
                    inference=worded.inference,
                    improvement=worded.improvement,
                    evidence=worded.evidence,
                    composed=worded.composed,
                    fault=worded.fault,
                    dropped_citations=worded.dropped_citations,
                )
            )
            exchange = (worded.turns, worded.usage, worded.effect_keys)
            turns.append(llm_turn(message, self.name, str(index), *exchange))
        return [GradientsComputed.make(message, gradients=tuple(gradients), usage=usage), *turns]
