"""The instruction modifier: turns gradients into instructions, with professional prompts."""

from __future__ import annotations

from collections.abc import Sequence

from autogen_core import MessageContext, message_handler

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import (
    InstructionsProposed,
    Message,
    ProposalRequested,
    ProposedInstruction,
    RefusedProposal,
)
from bigpe.agents.reasoning.interface import Proposal, ReasoningStyle, Retrieve
from bigpe.agents.reasoning.llm_turns import llm_turn
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import LlmUsage
from bigpe.services.llm.service import LlmClient


class InstructionModifier(Actor):
    """Consumes ProposalRequested, emits InstructionsProposed and the LLM exchanges."""

    def __init__(
        self,
        journal: Journal,
        llm: LlmClient,
        retrieve: Retrieve,
        *,
        style: ReasoningStyle,
        concurrency: int = 1,
        retry: RetryRule | None = None,
    ) -> None:
        super().__init__(
            "Turns gradients into new instructions", journal, concurrency=concurrency, retry=retry
        )
        self._llm = llm
        self._retrieve = retrieve
        self._style = style

    @message_handler
    async def on_request(self, message: ProposalRequested, ctx: MessageContext) -> None:
        """Propose one instruction per improvement."""
        await self.perform(message, self._propose)

    async def _propose(self, message: ProposalRequested) -> Sequence[Message]:
        proposals: list[ProposedInstruction] = []
        refused: list[RefusedProposal] = []
        turns: list[Message] = []
        usage = LlmUsage()
        found = await self._style.propose(self._llm, message, self._retrieve)
        for index, (gradient, outcome, operator) in enumerate(found):
            if isinstance(outcome, Proposal):
                proposals.append(
                    ProposedInstruction(
                        instruction=outcome.instruction,
                        improvement=gradient.improvement,
                        composed=outcome.composed,
                        fault=outcome.fault,
                        author=gradient.author,
                        operator=operator,
                        change=outcome.change,
                    )
                )
            else:
                refused.append(
                    RefusedProposal(
                        improvement=gradient.improvement,
                        code=outcome.code,
                        reasons=outcome.reasons,
                        fault=outcome.fault,
                    )
                )
            usage += outcome.usage
            exchange = (outcome.turns, outcome.usage, outcome.effect_keys)
            turns.append(llm_turn(message, self.name, str(index), *exchange))
        answer = InstructionsProposed.make(
            message,
            parent_instruction=message.instruction.id,
            proposals=tuple(proposals),
            refused=tuple(refused),
            usage=usage,
        )
        return [answer, *turns]
