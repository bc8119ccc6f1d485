"""Summary of a run: instructions, rounds and gains, as a fold over its transcript.

The campaign needs all messages, because it decides. The summary needs only the messages with
results and reads the decisions from them. Figures of an instruction are computed as in the pool.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bigpe.agents.bandit.arm import ArmRecord, ancestors_of
from bigpe.agents.bandit.policies import PolicyConfig, make_policy
from bigpe.agents.bandit.pool import PRIOR_DF
from bigpe.agents.campaign.campaign import CHANGEABLE
from bigpe.agents.campaign.plugin_state import judged
from bigpe.agents.messages.answer_counts import AnswerCounts
from bigpe.agents.messages.core import (
    AnyMessage,
    ArmPulled,
    Gradient,
    GradientsComputed,
    InstructionsProposed,
    PairedGain,
    PlanChanged,
    PoolChanged,
    RewriteRequested,
    RunStarted,
    RunStopped,
    StepFailed,
    parse_message,
)
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.plugin import GateDecided, ReviewRequested
from bigpe.agents.messages.search import operators_text
from bigpe.agents.messages.usage import Usage
from bigpe.agents.statistics.intervals import Interval, moderated_mean
from bigpe.agents.statistics.moments import mean, summed
from bigpe.runtime.formatting import falling
from bigpe.services.core.values import Instruction, Json

CURVE_POINTS = 400
"""Approximate limit of the points of the best gain's curve."""


class PairRef(NamedTuple):
    """The place of a paired comparison in an ArmPulled message."""

    gain: float
    """Score units."""
    round: int
    place: int
    """Index among the message's gains."""
    seq: int
    """The sequence number of the message."""
    arm: str
    fallback: bool


class CurvePoint(NamedTuple):
    """The best instruction after a round."""

    round: int
    arm: str
    gain: Interval


class RoundSummary(NamedTuple):
    """A finished round."""

    round: int
    arm: str
    mean: float | None
    """Mean gain, score units; None: all comparisons were lost."""
    gains: int
    missing: int
    fallbacks: int
    admitted: tuple[str, ...]
    retired: tuple[str, ...]
    waiting: int
    best: str


@dataclass
class ArmSummary(ArmRecord):
    """The pool's record of an instruction, with its name, gradient and proposal."""

    name: str = ""
    """Name of a seed instruction."""
    gradient: Gradient | None = None
    """The gradient that led to the instruction."""
    proposal: str = ""
    """The id of the message that proposed it."""
    fallbacks: int = 0
    """Gains whose rewrite could not be used."""

    def take(self, round: int, gains: Sequence[PairedGain]) -> None:
        """Add the gains of a finished pull."""
        self.finish_pull(round, [(gain.naive, gain.gain) for gain in gains])
        self.fallbacks += sum(gain.fallback is not None for gain in gains)


class RunSummary:
    """The state of the fold. `apply` takes the messages in transcript order."""

    def __init__(self) -> None:
        self.start: RunStarted | None = None
        self.started_at = 0.0
        """Unix time, seconds."""
        self.arms: dict[str, ArmSummary] = {}
        """All proposed instructions, seeds first."""
        self.admitted: list[str] = []
        """Ids of the admitted instructions, in order of admission."""
        self.rounds: list[RoundSummary] = []
        self.settled_at: list[float] = []
        """Time at which each round was finished; Unix time, seconds."""
        self.pairs: list[PairRef] = []
        self.curve: list[CurvePoint] = []
        self.failures: dict[str, int] = defaultdict(int)
        """Steps given up, by actor."""
        self.best = ""
        self.sigma = 0.0
        self.answers = AnswerCounts()
        """What the language model gave in all finished rounds."""
        self.operators = ""
        """The trials of each operator; empty for styles without operators."""
        self.used = Usage()
        """Requests of the pilot and all finished rounds."""
        self.stopped: RunStopped | None = None
        self._in_flight: dict[int, ArmSummary] = {}
        self._pulled: dict[int, ArmPulled] = {}
        self._gradients: dict[int, dict[str, Gradient]] = {}
        self._proposed: dict[int, InstructionsProposed] = {}
        """Proposals by round, after the gates; they count when the round is finished."""
        self._reviewed: dict[str, Json] = {}

    @property
    def plan(self) -> CampaignPlan | None:
        """The run's plan; None before its start."""
        return self.start.plan if self.start else None

    def in_flight(self) -> dict[int, str]:
        """The rounds in flight and their instructions."""
        return {round: arm.instruction.id for round, arm in sorted(self._in_flight.items())}

    def pooled_variance(self) -> float | None:
        """Variance between naive prompts within an arm, pooled over all arms as in the pool."""
        return summed(arm.figures.between for arm in self.arms.values()).variance

    def interval(self, arm: ArmSummary, prior: float | None) -> Interval | None:
        """The arm's mean gain with its 95% interval, as in the pool; None without gains."""
        if not arm.count:
            return None
        figures = arm.figures
        return moderated_mean(figures.mean, figures.prompts, figures.between, prior, PRIOR_DF)

    def upper_bounds(self) -> dict[str, float]:
        """The policy's upper bound for each active instruction, in the policy's units."""
        if self.plan is None or not self.sigma:
            return {}
        policy = make_policy(PolicyConfig.model_validate(self.plan.policy))
        living = [arm for arm in self.arms.values() if arm.state == "living"]
        arms = [arm.arm(ancestors_of(arm, self.arms)) for arm in living]
        return {arm.id: policy.upper_bound(arm, arms, self.sigma) for arm in arms}

    def apply(self, seq: int, ts: float, message: AnyMessage) -> None:
        """Fold a message; messages of other kinds change nothing."""
        match message:
            case RunStarted():
                self._begin(ts, message)
            case PlanChanged():
                self._change(message)
            case RewriteRequested():
                arm = self._arm(message.instruction)
                arm.pending[message.round] = len(message.tasks)
                self._in_flight[message.round] = arm
            case ArmPulled():
                self._pulled[message.round] = message
                self._add_pairs(seq, message)
            case GradientsComputed():
                gradients = self._gradients.setdefault(message.round, {})
                gradients |= {gradient.improvement: gradient for gradient in message.gradients}
            case InstructionsProposed():
                self._proposed[message.round] = message
            case ReviewRequested():
                self._reviewed[message.mid] = message.subject
            case GateDecided():
                self._apply_gate(seq, ts, message)
            case PoolChanged():
                self._settle(ts, message)
            case StepFailed():
                if not message.will_retry:
                    self.failures[message.actor] += 1
            case RunStopped():
                self.stopped = message
            case _:
                pass

    def _begin(self, ts: float, start: RunStarted) -> None:
        self.start = start
        self.started_at = ts
        for seed in start.plan.instructions:
            self.arms[seed.instruction.id] = ArmSummary(seed.instruction, "living", name=seed.name)
        self.admitted = [*self.arms]
        self.best = start.plan.instructions[0].instruction.id

    def _change(self, changed: PlanChanged) -> None:
        if self.start is not None:
            update = {name: getattr(changed, name) for name in CHANGEABLE}
            plan = self.start.plan.model_copy(update=update)
            self.start = self.start.model_copy(update={"plan": plan})
        self.stopped = None

    def _arm(self, instruction: Instruction) -> ArmSummary:
        return self.arms.setdefault(instruction.id, ArmSummary(instruction, "living"))

    def _add_pairs(self, seq: int, pulled: ArmPulled) -> None:
        self.pairs += [
            PairRef(g.gain, pulled.round, index, seq, pulled.instruction, g.fallback is not None)
            for index, g in enumerate(pulled.gains)
        ]

    def _propose(self, message: InstructionsProposed) -> None:
        gradients = self._gradients.get(message.round, {})
        for proposal in message.proposals:
            if proposal.instruction.id in self.arms:
                continue
            self.arms[proposal.instruction.id] = ArmSummary(
                proposal.instruction,
                "waiting",
                parent=message.parent_instruction,
                born_round=message.round,
                author=proposal.author,
                improvement=proposal.improvement,
                operator=proposal.operator,
                change=proposal.change,
                gradient=gradients.get(proposal.improvement),
                proposal=message.mid,
            )

    def _apply_gate(self, seq: int, ts: float, decision: GateDecided) -> None:
        """Apply the answer as the gate has amended it."""
        subject = self._reviewed.pop(decision.parent, None)
        answer = parse_message(json.dumps(subject)) if subject else None
        if isinstance(answer, GradientsComputed | InstructionsProposed):
            self.apply(seq, ts, judged(answer, decision.role, decision.judgements))

    def _settle(self, ts: float, changed: PoolChanged) -> None:
        pulled = self._pulled.pop(changed.round, None)
        if proposed := self._proposed.pop(changed.round, None):
            self._propose(proposed)
        self._gradients.pop(changed.round, None)
        if arm := self._in_flight.pop(changed.round, None):
            arm.take(changed.round, pulled.gains if pulled else ())
        for instruction in changed.admitted:
            self._arm(instruction).state = "living"
            self.admitted.append(instruction.id)
        for retired in changed.retired:
            if arm := self.arms.get(retired.instruction):
                arm.retire(retired.reason)
        self.best, self.sigma, self.used = changed.best, changed.sigma, changed.used
        self.answers = changed.answers
        self.operators = operators_text(changed.operators)
        gains = [gain.gain for gain in pulled.gains] if pulled else []
        self.rounds.append(
            RoundSummary(
                changed.round,
                pulled.instruction if pulled else "",
                mean(gains) if gains else None,
                len(gains),
                pulled.missing if pulled else 0,
                sum(gain.fallback is not None for gain in pulled.gains) if pulled else 0,
                tuple(i.id for i in changed.admitted),
                tuple(r.instruction for r in changed.retired),
                changed.waiting,
                changed.best,
            )
        )
        self.settled_at.append(ts)
        self._add_curve_point(changed.round)

    def _add_curve_point(self, round: int) -> None:
        planned = self.plan.rounds if self.plan else 1
        if round % max(1, planned // CURVE_POINTS) and self.stopped is None:
            return
        arm = self.arms.get(self.best)
        gain = self.interval(arm, self.pooled_variance()) if arm else None
        if gain is not None:
            self.curve.append(CurvePoint(round, self.best, gain))


def ordered(arms: Sequence[ArmSummary], gain_of: dict[str, Interval | None]) -> list[ArmSummary]:
    """The arms by falling mean gain; arms without a result come last."""
    means = {id: gain.mean if gain else None for id, gain in gain_of.items()}
    return sorted(arms, key=lambda arm: falling(means[arm.instruction.id]))
