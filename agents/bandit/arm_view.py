"""An instruction as a policy sees it."""

from __future__ import annotations

from dataclasses import dataclass

from bigpe.agents.statistics.moments import RunningMoments

MOST_ANCESTORS = 8
"""Older ancestors have next to no weight."""


@dataclass(frozen=True)
class Arm:
    """An instruction as the bandit sees it: its gains and pulls."""

    id: str
    gains: RunningMoments = RunningMoments()
    """Number, mean and variance of its gains so far, score units."""
    finished_pulls: int = 0
    pending_pulls: int = 0
    pending_gains: int = 0
    """Number of gains that pulls in flight are expected to give."""
    ancestors: tuple[RunningMoments, ...] = ()
    """The gains of its parent, the parent's parent and so on, at most MOST_ANCESTORS; none for a
    seed instruction."""

    @property
    def count(self) -> int:
        """Number of gains, including those expected of pulls in flight."""
        return self.gains.n + self.pending_gains

    @property
    def tried(self) -> bool:
        """Whether it was ever pulled. A pull in flight counts."""
        return self.finished_pulls + self.pending_pulls > 0

    @property
    def mean(self) -> float:
        """Mean gain, score units. 0 without gains."""
        return self.gains.mean
