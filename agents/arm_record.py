"""What the pool knows of one instruction: its gains while it lives, and what they come to.

Sums are kept prompt by prompt, so that a round costs what its own gains cost, however long the
run; once an instruction has left, only the sums stay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, PlainSerializer

from bigpe.agents.policies import Arm
from bigpe.agents.statistics import Squares, mean, pooled_squares
from bigpe.services.values import Instruction

State = Literal["living", "waiting", "retired"]
Gains = list[tuple[str, float]]
"""(naive prompt, gain) in pull order."""


def _in_columns(gains: Gains) -> dict[str, list[Any]]:
    """Each prompt once: a leader has thousands of gains over few prompts."""
    prompts = {naive: place for place, naive in enumerate(dict(gains))}
    return {
        "prompts": [*prompts],
        "places": [prompts[naive] for naive, _ in gains],
        "gains": [gain for _, gain in gains],
    }


def _in_rows(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    places = zip(stored["places"], stored["gains"], strict=True)
    return [(stored["prompts"][place], gain) for place, gain in places]


class Group(NamedTuple):
    """The gains at one naive prompt."""

    n: int
    mean: float
    squares: float
    """Summed squared deviations from the mean: noise."""


class Figures(NamedTuple):
    """What an arm's gains come to."""

    prompts: int
    """Naive prompts with a gain; the figures below are of no use when it is 0."""
    mean: float
    """Of the prompts' mean gains, score units."""
    between: Squares
    """Of the prompts' means about their mean."""
    within: Squares
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
    gains: Annotated[Gains, PlainSerializer(_in_columns), BeforeValidator(_in_rows)] = field(
        default_factory=list[tuple[str, float]]
    )
    """Empty again once it has left."""
    count: int = 0
    """Finished gains."""
    groups: dict[str, Group] = field(default_factory=dict[str, Group])
    figures: Figures = Figures(0, 0.0, Squares(0.0, 0), Squares(0.0, 0))
    finished_pulls: int = 0
    empty_pulls: int = 0
    pending: dict[int, int] = field(default_factory=dict[int, int])
    """Expected gains of the pulls in flight, by their index."""

    def arm(self) -> Arm:
        """The record as a policy sees it; for the living."""
        return Arm(
            id=self.instruction.id,
            gains=tuple(gain for _, gain in self.gains),
            finished_pulls=self.finished_pulls,
            pending_pulls=len(self.pending),
            pending_gains=sum(self.pending.values()),
        )

    def finish_pull(self, index: int, gains: Gains) -> None:
        """Take the gains of a pull in flight; KeyError when it is not."""
        del self.pending[index]
        self.finished_pulls += 1
        self.empty_pulls += not gains
        self.gains += gains
        self.count += len(gains)
        if gains:
            self._sum_up({naive for naive, _ in gains})
        self._forget()

    def retire(self, reason: str) -> None:
        """It is pulled no more; pulls in flight may still end."""
        self.state = "retired"
        self.reason = reason
        self._forget()

    def _forget(self) -> None:
        if self.state == "retired" and not self.pending:
            self.gains, self.groups = [], {}

    def _sum_up(self, changed: set[str]) -> None:
        values: dict[str, list[float]] = defaultdict(list)
        for naive, gain in self.gains:
            if naive in changed:
                values[naive].append(gain)
        for naive, gains in values.items():
            total = pooled_squares([gains]).total
            self.groups[naive] = Group(len(gains), mean(gains), total)
        groups = [*self.groups.values()]
        means = [group.mean for group in groups]
        noise = math.fsum(group.squares for group in groups)
        within = Squares(noise, sum(group.n - 1 for group in groups))
        self.figures = Figures(len(means), mean(means), pooled_squares([means]), within)
