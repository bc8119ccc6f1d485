"""The instruction modifier: turns gradients into instructions, with professional prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

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
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.evidence_worded.instruction import Proposal, propose
from bigpe.agents.reasoning.llm_turns import llm_turn
from bigpe.agents.reasoning.rewriting import LlmClient
from bigpe.agents.reasoning.rules import EMBEDDED_PROPOSALS, RoleRules
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import LlmUsage, derive_seed

Retrieve = Callable[[str, int], Awaitable[list[str]]]
"""Professional prompts for a text, best first; the second argument is the largest number."""

RETRIEVED = 20
"""Professional prompts per request. The model sees two; clauses to try come from all."""


class InstructionModifier(Actor):
    """Consumes ProposalRequested, emits InstructionsProposed and the LLM exchanges."""

    def __init__(
        self,
        journal: Journal,
        llm: LlmClient,
        retrieve: Retrieve,
        *,
        constraints: Constraints = NONE,
        rules: RoleRules = EMBEDDED_PROPOSALS,
        concurrency: int = 1,
        retry: RetryRule | None = None,
    ) -> None:
        super().__init__(
            "Turns gradients into new instructions", journal, concurrency=concurrency, retry=retry
        )
        self._llm = llm
        self._retrieve = retrieve
        self._constraints = constraints
        self._rules = rules

    @message_handler
    async def on_request(self, message: ProposalRequested, ctx: MessageContext) -> None:
        """Propose one instruction per improvement."""
        await self.perform(message, self._propose)

    async def _propose(self, message: ProposalRequested) -> Sequence[Message]:
        proposals: list[ProposedInstruction] = []
        refused: list[RefusedProposal] = []
        turns: list[Message] = []
        usage = LlmUsage()
        living = list(message.living)
        for index, gradient in enumerate(message.gradients):
            query = " ".join([gradient.improvement, *message.batch])
            outcome = await propose(
                self._llm,
                gradient,
                message.rows,
                parent=message.instruction,
                professional=await self._retrieve(query, RETRIEVED),
                pairs=message.pairs,
                living=living,
                batch_prompts=message.batch,
                seed=derive_seed(message.seed, index),
                constraints=self._constraints,
                rules=self._rules,
            )
            if isinstance(outcome, Proposal):
                living.append(outcome.instruction)
                proposals.append(
                    ProposedInstruction(
                        instruction=outcome.instruction,
                        improvement=gradient.improvement,
                        composed=outcome.composed,
                        fault=outcome.fault,
                        author=gradient.author,
                    )
                )
            else:
                refused.append(
                    RefusedProposal(
                        improvement=gradient.improvement, code=outcome.code, reasons=outcome.reasons
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
