"""The evidence-worded style as a `ReasoningStyle`: the evidence decides, the model words it."""

from __future__ import annotations

from bigpe.agents.messages.core import CritiqueRequested, ProposalRequested
from bigpe.agents.messages.plan import EVIDENCE_WORDED
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.evidence_worded.gradient import sample_evidence, word_gradient
from bigpe.agents.reasoning.evidence_worded.instruction import propose
from bigpe.agents.reasoning.interface import Proposal, Proposed, Retrieve, WordedGradient
from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.agents.reasoning.rules import RewriteRules, RoleRules
from bigpe.prompts.templates import template
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.llm.service import LlmClient

RETRIEVED = 20
"""Professional prompts per request. The model sees two; clauses to try come from all."""


class EvidenceWorded:
    """For small models: rows of the evidence table determine what is written."""

    name = EVIDENCE_WORDED

    def __init__(
        self,
        constraints: Constraints,
        rewrites: RewriteRules,
        gradients: RoleRules,
        proposals: RoleRules,
    ) -> None:
        self._constraints = constraints
        self._rewrites = rewrites
        self._gradients = gradients
        self._proposals = proposals

    def system_prompt(self, instruction: Instruction) -> str:
        """See `ReasoningStyle.system_prompt`. Exemplars follow the text, as lines."""
        text = template("generator").system_with(instruction=instruction.text)
        return instruction.model_copy(update={"text": text}).with_examples

    async def rewrite(
        self, llm: LlmClient, instruction: Instruction | None, naive: str, seed: int
    ) -> Rewrite:
        """See `ReasoningStyle.rewrite`."""
        return await rewrite(llm, instruction, naive, seed, self._constraints, self._rewrites)

    async def explain(
        self, llm: LlmClient, request: CritiqueRequested, *, sees: bool
    ) -> list[WordedGradient]:
        """See `ReasoningStyle.explain`. The model gets the best and the worst image."""
        images = [image for image in (request.best_image, request.worst_image) if image]
        samples = sample_evidence(
            request.rows, request.instruction, count=request.improvements, seed=request.seed
        )
        return [
            await word_gradient(
                llm,
                rows,
                request.best,
                request.worst,
                request.professional,
                derive_seed(request.seed, index),
                images if sees else (),
                self._gradients,
            )
            for index, rows in enumerate(samples)
        ]

    async def propose(
        self, llm: LlmClient, request: ProposalRequested, retrieve: Retrieve
    ) -> list[Proposed]:
        """See `ReasoningStyle.propose`. Each proposal differs from the earlier ones."""
        living = list(request.living)
        proposed: list[Proposed] = []
        for index, gradient in enumerate(request.gradients):
            query = " ".join([gradient.improvement, *request.batch])
            outcome = await propose(
                llm,
                gradient,
                request.rows,
                parent=request.instruction,
                professional=await retrieve(query, RETRIEVED),
                pairs=request.pairs,
                living=living,
                batch_prompts=request.batch,
                seed=derive_seed(request.seed, index),
                constraints=self._constraints,
                rules=self._proposals,
            )
            if isinstance(outcome, Proposal):
                living.append(outcome.instruction)
            proposed.append(Proposed(gradient, outcome))
        return proposed
