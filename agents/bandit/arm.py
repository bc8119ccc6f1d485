"""The pool's record of one instruction: sums of its gains, not the gains themselves.

Sums are kept per prompt, so neither a round nor a snapshot grows with the number of pulls. A
retired arm keeps only the sums over all prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bigpe.agents.bandit.arm_view import MOST_ANCESTORS, Arm
from bigpe.agents.statistics.moments import RunningMoments, SumOfSquares, mean, pooled_squares
from bigpe.services.core.values import Instruction

State = Literal["living", "waiting", "retired"]


class GainSummary(NamedTuple):
    """A summary of an arm's gains."""

    prompts: int
    """Naive prompts with a gain. If it is 0, the other fields have no meaning."""
    mean: float
    """Mean of the prompts' mean gains, score units."""
    between: SumOfSquares
    """Squared deviations of the prompts' means from their mean."""
    within: SumOfSquares
    """Squared deviations of gains from their prompt's mean."""


@dataclass
class ArmRecord:
    """An instruction that is or was in the pool."""

    instruction: Instruction
    state: State
    parent: str | None = None
    born_round: int = 0
    gradient_mid: str = ""
    author: str = ""
    improvement: str = ""
    """The improvement of its gradient."""
    operator: str = ""
    """The operator that made it; "" for seeds and for styles without operators."""
    change: str = ""
    """What differs from its parent, in one line."""
    reason: str = ""
    """Why it was retired."""
    gains: RunningMoments = RunningMoments()
    """Moments of all finished gains."""
    groups: dict[str, RunningMoments] = field(default_factory=dict[str, RunningMoments])
    """Moments of the gains by naive prompt; emptied after retirement."""
    figures: GainSummary = GainSummary(0, 0.0, SumOfSquares(0.0, 0), SumOfSquares(0.0, 0))
    finished_pulls: int = 0
    empty_pulls: int = 0
    pending: dict[int, int] = field(default_factory=dict[int, int])
    """Number of expected gains of each pull in flight, by the index of the pull."""

    @property
    def count(self) -> int:
        """Number of finished gains."""
        return self.gains.n

    def arm(self, ancestors: tuple[RunningMoments, ...] = ()) -> Arm:
        """The record as a policy sees it. `ancestors`: see `Arm.ancestors`."""
        return Arm(
            id=self.instruction.id,
            gains=self.gains,
            finished_pulls=self.finished_pulls,
            pending_pulls=len(self.pending),
            pending_gains=sum(self.pending.values()),
            ancestors=ancestors,
        )

    def finish_pull(self, index: int, gains: Sequence[tuple[str, float]]) -> None:
        """Add the (naive prompt, gain) pairs of a pull. Raises KeyError if it is not in flight."""
        del self.pending[index]
        self.finished_pulls += 1
        self.empty_pulls += not gains
        self.gains = self.gains.plus(gain for _, gain in gains)
        for naive, gain in gains:
            self.groups[naive] = self.groups.get(naive, RunningMoments()).plus((gain,))
        if gains:
            self._sum_up()
        self._drop_groups()

    def retire(self, reason: str) -> None:
        """Exclude it from further pulls. Pulls in flight may still end."""
        self.state = "retired"
        self.reason = reason
        self._drop_groups()

    def _drop_groups(self) -> None:
        if self.state == "retired" and not self.pending:
            self.groups = {}

    def _sum_up(self) -> None:
        groups = [*self.groups.values()]
        means = [group.mean for group in groups]
        noise = math.fsum(group.squares for group in groups)
        within = SumOfSquares(noise, sum(group.n - 1 for group in groups))
        self.figures = GainSummary(len(means), mean(means), pooled_squares([means]), within)


def ancestors_of(record: ArmRecord, records: Mapping[str, ArmRecord]) -> tuple[RunningMoments, ...]:
    """The gains of the ancestors of `record`, nearest first. See `Arm.ancestors`."""
    found: list[RunningMoments] = []
    while (parent := records.get(record.parent or "")) and len(found) < MOST_ANCESTORS:
        found.append(parent.gains)
        record = parent
    return tuple(found)
