"""The free-form style as a `ReasoningStyle`, for models that can reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bigpe.agents.evidence.contrasts import alike
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import CritiqueRequested, ProposalRequested
from bigpe.agents.messages.parts import Gradient
from bigpe.agents.messages.plan import BUILT_IN_AUTHOR, FREE_FORM
from bigpe.agents.messages.search import Operator
from bigpe.agents.reasoning.free_form.exemplars import as_answers
from bigpe.agents.reasoning.free_form.generator import system_text
from bigpe.agents.reasoning.free_form.gradient import write_gradients
from bigpe.agents.reasoning.free_form.instruction import PROFESSIONAL, write_instruction
from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import (
    Proposal,
    Proposed,
    Rejection,
    Retrieve,
    WordedGradient,
)
from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.agents.reasoning.rules import RewriteRules, RoleRules
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.llm.service import LlmClient

FOLLOWED: tuple[Operator, ...] = ("revise",)
"""The operators of a gradient that the search gave none."""


class FreeForm:
    """The whole batch, contrasts within one prompt, what was tried, and operators."""

    name = FREE_FORM

    def __init__(
        self,
        settings: FreeFormSettings,
        rewrites: RewriteRules,
        gradients: RoleRules,
        proposals: RoleRules,
    ) -> None:
        self._settings = settings
        self._rewrites = rewrites
        self._gradients = gradients
        self._proposals = proposals

    def system_prompt(self, instruction: Instruction) -> str:
        """See `ReasoningStyle.system_prompt`. Exemplars follow the text, as lines."""
        text = system_text(instruction, self._settings, tagged=False)
        return instruction.model_copy(update={"text": text}).with_examples

    async def rewrite(
        self, llm: LlmClient, instruction: Instruction | None, naive: str, seed: int
    ) -> Rewrite:
        """See `ReasoningStyle.rewrite`."""
        system = system_text(instruction, self._settings)
        if instruction is not None:
            instruction = as_answers(instruction, naive, negative=self._settings.negative)
        return await rewrite(
            llm,
            instruction,
            naive,
            seed,
            self._settings.constraints,
            self._rewrites,
            system=system,
        )

    async def explain(
        self, llm: LlmClient, request: CritiqueRequested, *, sees: bool
    ) -> list[WordedGradient]:
        """See `ReasoningStyle.explain`. The model gets the images of the widest contrast."""
        return await write_gradients(llm, request, self._gradients, self._settings, sees=sees)

    async def propose(
        self, llm: LlmClient, request: ProposalRequested, retrieve: Retrieve
    ) -> list[Proposed]:
        """See `ReasoningStyle.propose`. The proposals of a round are written at the same time."""

        async def proposed(index: int, gradient: Gradient, operator: Operator) -> Proposed:
            found = await retrieve(" ".join([gradient.improvement, *request.batch]), PROFESSIONAL)
            outcome = await write_instruction(
                llm,
                request,
                gradient,
                operator,
                found,
                derive_seed(request.seed, index),
                self._proposals,
                self._settings,
            )
            return Proposed(gradient, outcome, operator)

        tasks = assigned(request)
        found = await asyncio.gather(
            *(
                proposed(index, gradient, operator)
                for index, (gradient, operator) in enumerate(tasks)
            )
        )
        return without_near_copies(found)


def assigned(request: ProposalRequested) -> Sequence[tuple[Gradient, Operator]]:
    """Each gradient with its operator, for each proposal.

    The operators of the round go to the gradients of the gradient calculator, in order, the same
    number to each. Gradients of contributors, and further ones, are followed.
    """
    search = request.search
    operators: list[Operator] = list(search.operators) if search else []
    each = search.proposals if search else 1
    own = [gradient for gradient in request.gradients if gradient.author == BUILT_IN_AUTHOR]
    others = [gradient for gradient in request.gradients if gradient.author != BUILT_IN_AUTHOR]
    tasks: list[tuple[Gradient, Operator]] = []
    for index, gradient in enumerate((*own, *others)):
        mine = operators[index * each : (index + 1) * each] if index < len(own) else ()
        for operator in mine or FOLLOWED:
            tasks.append((gradient, operator))
    return tasks


def without_near_copies(found: Sequence[Proposed]) -> list[Proposed]:
    """The proposals of a round; one that is a near-copy of an earlier one is refused."""
    kept: list[Proposed] = []
    for proposed in found:
        outcome = proposed.outcome
        if isinstance(outcome, Proposal):
            text = outcome.instruction.text
            others = [o.outcome.instruction for o in kept if isinstance(o.outcome, Proposal)]
            copied = next((other for other in others if alike(text, other.text)), None)
            if copied is not None:
                outcome = Rejection(
                    code="near-copy",
                    reasons=(f"it is the same as {copied.id[:8]} of the same round",),
                    fault=AnswerFault.NEAR_COPY,
                    turns=outcome.turns,
                    usage=outcome.usage,
                    effect_keys=outcome.effect_keys,
                )
        kept.append(proposed._replace(outcome=outcome))
    return kept
