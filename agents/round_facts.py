"""From a run's messages to what diagnostics need: facts of each settled round. A fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bigpe.agents.diagnostics import RoundFacts
from bigpe.agents.diversity import Sayings, pool_diversity
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
from bigpe.agents.statistics import Squares, mean, moderated_mean, pooled_squares, summed
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


@dataclass
class _Record:
    """An instruction's gains; a pull changes one record, so the others need no second look."""

    gains: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    means: dict[str, float] = field(default_factory=dict[str, float])
    """By naive prompt."""
    centre: float = 0.0
    squares: Squares = Squares(0.0, 0)

    def add(self, pulled: ArmPulled) -> None:
        for gain in pulled.gains:
            self.gains[gain.naive].append(gain.gain)
        for naive in {gain.naive for gain in pulled.gains}:
            self.means[naive] = mean(self.gains[naive])
        if self.means:
            means = [*self.means.values()]
            self.centre = mean(means)
            self.squares = pooled_squares([means])


class RoundHistory:
    """Feed it every message of a run, in transcript order."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.facts: list[RoundFacts] = []
        """Of the settled rounds, in order."""
        self._open: dict[int, _Open] = defaultdict(_Open)
        self._living: dict[str, Instruction] = {}
        self._known = Sayings()
        self._records: dict[str, _Record] = defaultdict(_Record)
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
            self._living[instruction.id] = instruction
            self._known.add(instruction)

    def _propose(self, current: _Open, message: InstructionsProposed) -> None:
        for proposal in message.proposals:
            near = self._known.novelty(proposal.instruction)
            current.novelty += [] if near is None else [near]
        for refused in message.refused:
            copies = any(reason.startswith(NEAR_COPY) for reason in refused.reasons)
            current.novelty += [0.0] if copies else []
        for proposal in message.proposals:
            self._known.add(proposal.instruction)

    def _settle(self, message: PoolChanged) -> None:
        current = self._open.pop(message.round)
        self._admit(message.admitted)
        for retired in message.retired:
            self._living.pop(retired.instruction, None)
        pulled = current.pulled
        if pulled is None:
            return
        self._records[pulled.instruction].add(pulled)
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
        known = [record for record in self._records.values() if record.means]
        prior = summed(record.squares for record in known).variance
        bounds = [
            moderated_mean(r.centre, len(r.means), r.squares, prior, PRIOR_DF).lo for r in known
        ]
        return max((bound for bound in bounds if bound is not None), default=None)
