"""From a run's messages to what diagnostics need: facts of each settled round. A fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bigpe.agents.diagnostics import RoundFacts
from bigpe.agents.diversity import novelty, pool_diversity
from bigpe.agents.messages import (
    ArmPulled,
    ImageScored,
    InstructionsProposed,
    Message,
    PoolChanged,
    RunStarted,
    StepFailed,
)
from bigpe.agents.pool import PRIOR_DF
from bigpe.agents.statistics import mean, moderated_interval, pooled_squares
from bigpe.services.values import Instruction

NEAR_COPY = "a near-copy"
"""How the refusal of a proposal that is known already begins."""


@dataclass
class _Open:
    """A round whose last message has not come."""

    pulled: ArmPulled | None = None
    truncated: int = 0
    novelty: list[float] = field(default_factory=list[float])
    causes: list[str] = field(default_factory=list[str])


class RoundHistory:
    """Feed it every message of a run, in transcript order."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.facts: list[RoundFacts] = []
        """Of the settled rounds, in order."""
        self._open: dict[int, _Open] = defaultdict(_Open)
        self._living: dict[str, Instruction] = {}
        self._known: dict[str, Instruction] = {}
        self._gains: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for message in messages:
            self.add(message)

    def add(self, message: Message) -> None:
        """Take a message in."""
        current = self._open[message.round]
        match message:
            case RunStarted(plan=plan):
                self._admit(seed.instruction for seed in plan.instructions)
            case ArmPulled():
                current.pulled = message
            case ImageScored(purpose="rewrite"):
                current.truncated += message.truncated > 0
            case InstructionsProposed():
                self._propose(current, message)
            case StepFailed(will_retry=False):
                current.causes.append(message.cause)
            case PoolChanged():
                self._settle(message)
            case _:
                pass

    def _admit(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            self._living[instruction.id] = self._known[instruction.id] = instruction

    def _propose(self, current: _Open, message: InstructionsProposed) -> None:
        for proposal in message.proposals:
            near = novelty(proposal.instruction, self._known.values())
            current.novelty += [] if near is None else [near]
        for refused in message.refused:
            copies = any(reason.startswith(NEAR_COPY) for reason in refused.reasons)
            current.novelty += [0.0] if copies else []
        for proposal in message.proposals:
            self._known[proposal.instruction.id] = proposal.instruction

    def _settle(self, message: PoolChanged) -> None:
        current = self._open.pop(message.round)
        self._admit(message.admitted)
        for retired in message.retired:
            self._living.pop(retired.instruction, None)
        pulled = current.pulled
        if pulled is None:
            return
        for gain in pulled.gains:
            self._gains[pulled.instruction][gain.naive].append(gain.gain)
        fallbacks = [gain.fallback for gain in pulled.gains if gain.fallback is not None]
        self.facts.append(
            RoundFacts(
                round=message.round,
                arm=pulled.instruction,
                gains=tuple(gain.gain for gain in pulled.gains),
                missing=pulled.missing,
                fallbacks=len(fallbacks),
                truncated=current.truncated,
                novelty=mean(current.novelty) if current.novelty else None,
                diversity=pool_diversity(self._living.values()),
                best_bound=self._best_bound(),
                causes=(*current.causes, *fallbacks),
            )
        )

    def _best_bound(self) -> float | None:
        """The highest lower bound of any instruction, as the pool reckons it."""
        arms = [[mean(gains) for gains in groups.values()] for groups in self._gains.values()]
        prior = pooled_squares(arms).variance
        bounds = [moderated_interval(means, prior, PRIOR_DF).lo for means in arms if means]
        return max((bound for bound in bounds if bound is not None), default=None)
