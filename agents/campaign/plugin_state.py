"""State of the plugin actors in the fold: answers that wait for gates, and reports of observers.

Gates of one kind of answer judge one after the other, ordered by name. Each gate judges the answer
as the previous gate left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import (
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
from bigpe.agents.messages.plugin import GateDecided, GateRule, Judgement, ReviewRequested
from bigpe.services.core.values import Instruction, LlmUsage

Answer = PromptsRewritten | GradientsComputed | InstructionsProposed


class Refused(NamedTuple):
    """The failure of a required gate: the run must stop, and the answer is lost."""

    answer: Answer
    gate: str

    def reason(self, cause: str) -> str:
        """Why the run stops, and what to do."""
        return (
            f"the required gate {self.gate!r} failed: {cause}; fix it, or set "
            f"[roles.{self.gate}] required = false, and start a run with another name"
        )


@dataclass
class _Held:
    body: str
    """The answer after the gates so far, JSON."""
    gates_left: tuple[GateRule, ...]
    """The gates that have not decided; the first one has the request."""


@dataclass
class Gates:
    """Answers that wait for the decision of a gate."""

    held: dict[str, _Held] = field(default_factory=dict[str, _Held])
    """By the id of the pending ReviewRequested."""

    def ask(self, answer: Answer, rules: Sequence[GateRule]) -> ReviewRequested | Answer:
        """The request to the first gate for this kind of answer, or the answer if there is none."""
        guards = [rule for rule in rules if rule.before == answer.kind]
        return self._next(answer, sorted(guards, key=lambda rule: rule.name))

    def decide(self, decision: GateDecided) -> ReviewRequested | Answer:
        """The request to the next gate after a decision, or the judged answer."""
        held = self.held.pop(decision.parent)
        answer = judged(_parsed(held.body), decision.role, decision.judgements)
        return self._next(answer, held.gates_left[1:])

    def fail(self, review: str) -> ReviewRequested | Answer | Refused:
        """The outcome of a failed review: the next request, the answer unjudged, or Refused."""
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
    """The role that wrote the answer."""
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
                _rewrite(rewrite, gate, by_item.get(i)) for i, rewrite in enumerate(answer.rewrites)
            )
            return answer.model_copy(update={"rewrites": rewrites})
        case GradientsComputed():
            judged_gradients = (
                _gradient(gradient, by_item.get(i)) for i, gradient in enumerate(answer.gradients)
            )
            kept = tuple(gradient for gradient in judged_gradients if gradient is not None)
            return answer.model_copy(update={"gradients": kept})
        case InstructionsProposed():
            return _proposals(answer, gate, by_item)


def _rewrite(rewrite: Rewritten, gate: str, judgement: Judgement | None) -> Rewritten:
    if judgement is None or judgement.verdict == "keep" or rewrite.fallback is not None:
        return rewrite
    if judgement.verdict == "amend":
        return rewrite.model_copy(update={"text": judgement.text})
    reason = f"vetoed by {gate}: {judgement.reason}"
    fallback = {"text": rewrite.naive, "fallback": reason, "fault": AnswerFault.GATE}
    return rewrite.model_copy(update=fallback)


def _gradient(gradient: Gradient, judgement: Judgement | None) -> Gradient | None:
    if judgement is None or judgement.verdict == "keep":
        return gradient
    if judgement.verdict == "veto":
        return None
    return gradient.model_copy(update={"improvement": judgement.text})


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
                RefusedProposal(
                    improvement=proposal.improvement,
                    code="vetoed",
                    reasons=reasons,
                    fault=AnswerFault.GATE,
                )
            )
        else:
            amended = Instruction(text=judgement.text, exemplars=proposal.instruction.exemplars)
            kept.append(proposal.model_copy(update={"instruction": amended}))
    return answer.model_copy(update={"proposals": tuple(kept), "refused": tuple(refused)})


@dataclass
class ObserverReports:
    """The observers of the run and their reports, each kept until its round is counted.

    An observer reports its usage for round N after it has read all of round N. The report is
    counted when round N+1 is settled, which waits for it. So the total does not depend on arrival
    order, and an observer has one round of time before it delays the run.
    """

    since: dict[str, int] = field(default_factory=dict[str, int])
    """By observer: the first round that it reports on."""
    ever: list[str] = field(default_factory=list[str])
    """All present and former observers."""
    reports: dict[int, dict[str, LlmUsage]] = field(default_factory=dict[int, dict[str, LlmUsage]])
    """Reports not counted yet, by round and observer."""
    changes: int = 0
    """Number of RolesChanged since the start."""

    def set(self, observers: Sequence[str], following: int) -> None:
        """Replace the observers. New observers report from round `following` on."""
        self.since = {name: self.since.get(name, following) for name in sorted(observers)}
        self.ever += [name for name in self.since if name not in self.ever]

    def expects(self, name: str, round: int) -> bool:
        """Whether the observer was present in that round; else it joined later."""
        return name in self.since and round >= self.since[name]

    def report(self, name: str, round: int, usage: LlmUsage) -> None:
        """Keep a report until its round is counted."""
        self.reports.setdefault(round, {})[name] = usage

    def complete(self, round: int) -> bool:
        """Whether all expected reports of the round have arrived."""
        arrived = self.reports.get(round, {})
        return all(name in arrived for name, first in self.since.items() if round >= first)

    def count(self, round: int) -> dict[str, LlmUsage]:
        """Remove and return the reports of the round, ordered by observer."""
        return dict(sorted(self.reports.pop(round, {}).items()))
