"""What the pool knows of one instruction: what its gains come to, never the gains themselves.

Sums are kept per prompt, so that neither a round nor a snapshot grows with the number of pulls.
After retirement only the sums over all prompts stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bigpe.agents.bandit.policies import Arm
from bigpe.agents.statistics.moments import RunningMoments, SumOfSquares, mean, pooled_squares
from bigpe.services.core.values import Instruction

State = Literal["living", "waiting", "retired"]


class GainSummary(NamedTuple):
    """What an arm's gains come to."""

    prompts: int
    """Naive prompts with a gain; the figures below are of no use when it is 0."""
    mean: float
    """Of the prompts' mean gains, score units."""
    between: SumOfSquares
    """Of the prompts' means about their mean."""
    within: SumOfSquares
    """Of gains about their prompt's mean."""


@dataclass
class ArmRecord:
    """An instruction of the pool, living or not."""

    instruction: Instruction
    state: State
    parent: str | None = None
    born_round: int = 0
    gradient_mid: str = ""
    author: str = ""
    improvement: str = ""
    """What the gradient asked for."""
    reason: str = ""
    gains: RunningMoments = RunningMoments()
    """All finished ones."""
    groups: dict[str, RunningMoments] = field(default_factory=dict[str, RunningMoments])
    """By naive prompt; empty again once it has left."""
    figures: GainSummary = GainSummary(0, 0.0, SumOfSquares(0.0, 0), SumOfSquares(0.0, 0))
    finished_pulls: int = 0
    empty_pulls: int = 0
    pending: dict[int, int] = field(default_factory=dict[int, int])
    """Expected gains of the pulls in flight, by their index."""

    @property
    def count(self) -> int:
        """Finished gains."""
        return self.gains.n

    def arm(self) -> Arm:
        """The record as a policy sees it; for the living."""
        return Arm(
            id=self.instruction.id,
            gains=self.gains,
            finished_pulls=self.finished_pulls,
            pending_pulls=len(self.pending),
            pending_gains=sum(self.pending.values()),
        )

    def finish_pull(self, index: int, gains: Sequence[tuple[str, float]]) -> None:
        """Take the (naive prompt, gain) of a pull in flight; KeyError when it is not."""
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
        """It is pulled no more; pulls in flight may still end."""
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
