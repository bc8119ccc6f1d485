"""Gates: an answer waits until the roles that guard it have judged it. Part of the fold, and pure.

Gates of one kind of answer are asked one after the other, in the order of their names, each about
what the one before left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bigpe.agents.messages import (
    Gradient,
    GradientsComputed,
    InstructionsProposed,
    Message,
    PromptsRewritten,
    ProposedInstruction,
    RefusedProposal,
    Rewritten,
    parse_message,
)
from bigpe.agents.role_messages import GateDecided, GateRule, Judgement, ReviewRequested
from bigpe.services.values import Instruction

Answer = PromptsRewritten | GradientsComputed | InstructionsProposed


class Refused(NamedTuple):
    """A required gate failed: the run must stop, and the answer is lost."""

    answer: Answer
    gate: str


@dataclass
class _Held:
    body: str
    """The answer as it stands, JSON."""
    gates_left: tuple[GateRule, ...]
    """The first of them was asked."""


@dataclass
class Gates:
    """The answers that wait for a gate."""

    held: dict[str, _Held] = field(default_factory=dict[str, _Held])
    """By the id of the ReviewRequested."""

    def ask(self, answer: Answer, rules: Sequence[GateRule]) -> ReviewRequested | Answer:
        """The question to the first gate that guards the answer, or the answer itself."""
        guards = [rule for rule in rules if rule.before == answer.kind]
        return self._next(answer, sorted(guards, key=lambda rule: rule.name))

    def decide(self, decision: GateDecided) -> ReviewRequested | Answer:
        """What follows of a gate's answer: the next gate's question, or the judged answer."""
        held = self.held.pop(decision.parent)
        answer = judged(_parsed(held.body), decision.role, decision.judgements)
        return self._next(answer, held.gates_left[1:])

    def fail(self, review: str) -> ReviewRequested | Answer | Refused:
        """What follows of a gate's failure to answer the ReviewRequested of that id."""
        held = self.held.pop(review)
        if held.gates_left[0].required:
            return Refused(_parsed(held.body), held.gates_left[0].name)
        return self._next(_parsed(held.body), held.gates_left[1:])

    def _next(self, answer: Answer, guards: Sequence[GateRule]) -> ReviewRequested | Answer:
        if not guards:
            return answer
        review = ReviewRequested.make(
            answer,
            f"{guards[0].name}/{answer.mid}",
            role=guards[0].name,
            subject=answer.model_dump(mode="json"),
        )
        self.held[review.mid] = _Held(answer.model_dump_json(), tuple(guards))
        return review


def speaker_of(answer: Answer) -> str:
    """The role that gave the answer."""
    match answer:
        case PromptsRewritten():
            return "generator"
        case GradientsComputed():
            return answer.author
        case InstructionsProposed():
            return "modifier"


def _parsed(body: str) -> Answer:
    answer = parse_message(body)
    assert isinstance(answer, Answer)
    return answer


def items_of(answer: Message) -> tuple[str, ...]:
    """The texts that a gate judges, in order: rewrites, improvements or instructions."""
    match answer:
        case PromptsRewritten():
            return tuple(rewrite.text for rewrite in answer.rewrites)
        case GradientsComputed():
            return tuple(gradient.improvement for gradient in answer.gradients)
        case InstructionsProposed():
            return tuple(proposal.instruction.text for proposal in answer.proposals)
        case _:
            raise TypeError(f"no gate judges a {answer.kind}")


def judged(answer: Answer, gate: str, judgements: Sequence[Judgement]) -> Answer:
    """The answer after the gate's judgements: vetoed items left out, amended ones replaced."""
    by_item = {judgement.item: judgement for judgement in judgements}
    match answer:
        case PromptsRewritten():
            rewrites = tuple(
                _rewrite(one, gate, by_item.get(i)) for i, one in enumerate(answer.rewrites)
            )
            return answer.model_copy(update={"rewrites": rewrites})
        case GradientsComputed():
            gradients = [_gradient(one, by_item.get(i)) for i, one in enumerate(answer.gradients)]
            return answer.model_copy(update={"gradients": tuple(g for g in gradients if g)})
        case InstructionsProposed():
            return _proposals(answer, gate, by_item)


def _rewrite(one: Rewritten, gate: str, judgement: Judgement | None) -> Rewritten:
    if judgement is None or judgement.verdict == "keep" or one.fallback is not None:
        return one
    if judgement.verdict == "amend":
        return one.model_copy(update={"text": judgement.text})
    reason = f"vetoed by {gate}: {judgement.reason}"
    return one.model_copy(update={"text": one.naive, "fallback": reason})


def _gradient(one: Gradient, judgement: Judgement | None) -> Gradient | None:
    if judgement is None or judgement.verdict == "keep":
        return one
    if judgement.verdict == "veto":
        return None
    return one.model_copy(update={"improvement": judgement.text})


def _proposals(
    answer: InstructionsProposed, gate: str, by_item: dict[int, Judgement]
) -> InstructionsProposed:
    kept: list[ProposedInstruction] = []
    refused = list(answer.refused)
    for index, proposal in enumerate(answer.proposals):
        judgement = by_item.get(index)
        if judgement is None or judgement.verdict == "keep":
            kept.append(proposal)
        elif judgement.verdict == "veto":
            reasons = (f"vetoed by {gate}: {judgement.reason}",)
            refused.append(
                RefusedProposal(improvement=proposal.improvement, code="vetoed", reasons=reasons)
            )
        else:
            amended = Instruction(text=judgement.text, exemplars=proposal.instruction.exemplars)
            kept.append(proposal.model_copy(update={"instruction": amended}))
    return answer.model_copy(update={"proposals": tuple(kept), "refused": tuple(refused)})
