"""The answers of a run's language model: counts, and the alarm about the first rewrites."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bigpe.agents.campaign.round import Round
from bigpe.agents.diagnostics.alarm import FIRST, RewriteOutcome, alarm, explained, outcome_of
from bigpe.agents.messages.answer_counts import AnswerCounts, Refusals
from bigpe.agents.messages.core import GradientsComputed

FIRST_PROPOSAL_ROUNDS = 5
"""Rounds without any proposal after which a search counts as failed."""


@dataclass
class AnswerRecord:
    """Counts rounds in the order of rounds, so that the order of answers does not matter."""

    counts: AnswerCounts = AnswerCounts()
    first: list[RewriteOutcome] = field(default_factory=list[RewriteOutcome])
    """The first rewrites: of whole rounds, until there are at least `FIRST`."""
    painted: dict[str, Refusals] = field(default_factory=dict[str, Refusals])
    """What the painter was asked for and refused, by id of the instruction."""
    alarmed: bool = False
    """Whether the run was stopped because of its first rewrites."""

    def settle(self, current: Round) -> str | None:
        """Count a finished round. Returns why to stop the run; None if it may go on."""
        outcomes = _outcomes(current)
        id = current.request.instruction.id
        self.painted[id] = self.painted.get(id, Refusals()).and_round(_refusals(current))
        refusals = {id: each for id, each in self.painted.items() if each.any}
        counts = self.counts.and_round(_counts(current, outcomes))
        self.counts = counts.model_copy(update={"refusals": refusals})
        if len(self.first) >= FIRST:
            return None
        self.first += outcomes
        reason = alarm(self.first)
        self.alarmed = reason is not None
        return reason

    @property
    def empty(self) -> bool:
        """Whether rewrites were requested and none was scored."""
        return self.counts.rewrites > 0 and self.counts.scored == 0

    @property
    def failure(self) -> str | None:
        """Why the run counts as failed, with the remedy; None if it does not."""
        if self.empty:
            cause = f"the first rewrites {explained(self.first)}"
            return f"no rewrite was scored; {cause if explained(self.first) else 'see the causes'}"
        counts = self.counts
        if counts.proposal_rounds >= FIRST_PROPOSAL_ROUNDS and not counts.proposals:
            return (
                f"no instruction was proposed in {counts.proposal_rounds} rounds that asked for "
                "one; `bigpe inspect --type InstructionsProposed` and `--type StepFailed` say why"
            )
        return None


def _outcomes(current: Round) -> list[RewriteOutcome]:
    """The outcome of each task, in order."""
    found: list[RewriteOutcome] = []
    for task in current.request.tasks:
        rewritten = (current.rewrites or {}).get((task.naive, task.image_seed))
        failed = current.failed_rewrites.get((task.naive, task.image_seed)) or current.batch_failure
        if rewritten is not None:
            found.append(outcome_of(task.naive, rewritten.fallback, rewritten.fault))
        elif failed is not None:
            found.append(failed.model_copy(update={"naive": task.naive}))
    return found


def _counts(current: Round, outcomes: list[RewriteOutcome]) -> AnswerCounts:
    gains = current.pulled.gains if current.pulled else ()
    replies = [r for r in current.replies.values() if isinstance(r, GradientsComputed)]
    gradients = [gradient for reply in replies for gradient in reply.gradients]
    proposals = current.proposed.proposals if current.proposed else ()
    refused = current.proposed.refused if current.proposed else ()
    lost = [picture for picture, was in current.pictures.lost.items() if not was]
    unpainted = sum(purpose == "rewrite" for purpose, _, _ in lost)
    return AnswerCounts(
        rewrites=len(current.request.tasks),
        scored=sum(gain.fallback is None for gain in gains),
        fallbacks=sum(outcome.reason != "" and not outcome.failed for outcome in outcomes),
        lost=sum(outcome.failed for outcome in outcomes),
        gradients=len(gradients),
        composed_gradients=sum(gradient.composed for gradient in gradients),
        proposal_rounds=int(current.critique_requested),
        proposals=len(proposals),
        refused_proposals=Counter(r.fault for r in refused if r.fault is not None),
        composed_proposals=sum(proposal.composed for proposal in proposals),
        unpainted={current.request.instruction.id: unpainted} if unpainted else {},
    )


def _refusals(current: Round) -> Refusals:
    wanted = Counter(purpose for purpose, _, _ in current.pictures.prompts)
    refused = Counter(purpose for purpose, _, _ in current.pictures.refused)
    return Refusals(
        rewrites=wanted["rewrite"],
        refused=refused["rewrite"],
        naive=wanted["naive"],
        naive_refused=refused["naive"],
    )
