"""Which instruction to pull next: pure functions of the pull history.

Rewards are gains divided by the noise of one gain, and n counts gains, not pulls; so neither the
scorer's units nor the batch size changes how much a policy explores.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from bigpe.services.values import derive_seed

PolicyName = Literal["ucb1", "paper", "epsilon-greedy", "greedy", "random"]
DISPLAY = 100.0
"""Scores are shown times 100; the paper's constants are on that scale."""
PAPER_EXPLORATION = 0.8


class PolicyConfig(BaseModel):
    """`[policy]`: how the next instruction is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PolicyName = "ucb1"
    exploration: float | None = Field(default=None, ge=0.0, le=100.0)
    """Multiplies the bonus; default 1 for ucb1, 0.8 for paper."""
    epsilon: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of random pulls of epsilon-greedy."""


@dataclass(frozen=True)
class Arm:
    """An instruction's record."""

    id: str
    gains: tuple[float, ...] = ()
    """Finished paired gains, score units, in pull order."""
    finished_pulls: int = 0
    pending_pulls: int = 0
    pending_gains: int = 0
    """Gains that the pulls in flight will bring."""

    @property
    def count(self) -> int:
        """Gains, those of pulls in flight included."""
        return len(self.gains) + self.pending_gains

    @property
    def tried(self) -> bool:
        """Whether it was ever pulled; a pull in flight counts."""
        return self.finished_pulls + self.pending_pulls > 0

    @property
    def mean(self) -> float:
        """Mean gain, score units; 0 without gains."""
        return math.fsum(self.gains) / len(self.gains) if self.gains else 0.0


class Policy(Protocol):
    """Chooses an arm; ties and randomness come from `rng` alone."""

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """The id of the arm to pull, of at least one; `scale`: noise of one gain, > 0."""
        ...

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """How good the arm may be, in the policy's reward units.

        Infinite without any gain, had or expected: an arm whose pulls were lost is asked again.
        """
        ...


def selection_rng(run_seed: int, index: int) -> random.Random:
    """The randomness of the run's selection number `index`."""
    return random.Random(derive_seed(run_seed, "selection", index))


def _best(arms: Sequence[Arm], value: Callable[[Arm], float], rng: random.Random) -> str:
    """The arm of the highest value; equal ones are equally likely, whatever their order."""
    top = max(value(arm) for arm in arms)
    return rng.choice(sorted(arm.id for arm in arms if value(arm) == top))


def _untried(arms: Sequence[Arm]) -> str | None:
    return next((arm.id for arm in arms if not arm.tried), None)


@dataclass(frozen=True)
class Ucb1:
    """Mean reward + c sqrt(2 ln t / n) (Auer, Cesa-Bianchi & Fischer 2002, UCB1)."""

    exploration: float = 1.0

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """The highest bound; untried arms first, in order."""
        return _untried(arms) or _best(arms, lambda a: self.upper_bound(a, arms, scale), rng)

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """In units of the noise of one gain; the mean of a pending first pull counts as 0."""
        if not arm.count:
            return math.inf
        t = max(sum(a.count for a in arms), 2)
        bonus = math.sqrt(2 * math.log(t) / arm.count)
        return arm.mean / scale + self.exploration * bonus


@dataclass(frozen=True)
class Paper:
    """Mean + c sqrt(ln t / n) on scores x 100, n and t counted in pulls at selection, as the
    paper (arXiv 2406.08713) has it; without its slip of counting arms that were only considered.
    """

    exploration: float = PAPER_EXPLORATION

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """The highest bound; untried arms first, in order."""
        return _untried(arms) or _best(arms, lambda a: self.upper_bound(a, arms, scale), rng)

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """In score x 100; `scale` plays no part."""
        n = arm.finished_pulls + arm.pending_pulls
        if not arm.count:
            return math.inf
        t = max(sum(a.finished_pulls + a.pending_pulls for a in arms), 2)
        return DISPLAY * arm.mean + self.exploration * math.sqrt(math.log(t) / n)


@dataclass(frozen=True)
class Greedy:
    """The highest mean; untried arms first."""

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """The highest mean; untried arms first, in order."""
        return _untried(arms) or _best(arms, lambda a: self.upper_bound(a, arms, scale), rng)

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """The mean in units of the noise of one gain; of a pending first pull, 0."""
        return arm.mean / scale if arm.count else math.inf


@dataclass(frozen=True)
class EpsilonGreedy(Greedy):
    """Greedy, but a uniformly random arm with probability epsilon."""

    epsilon: float = 0.1

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """See the class."""
        if rng.random() < self.epsilon:
            return rng.choice(sorted(arm.id for arm in arms))
        return super().select(arms, scale, rng)


@dataclass(frozen=True)
class Random(Greedy):
    """A uniformly random arm."""

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """See the class."""
        return rng.choice(sorted(arm.id for arm in arms))


def make_policy(config: PolicyConfig) -> Policy:
    """The policy that the configuration names."""
    match config.name:
        case "ucb1":
            return Ucb1(1.0 if config.exploration is None else config.exploration)
        case "paper":
            return Paper(PAPER_EXPLORATION if config.exploration is None else config.exploration)
        case "epsilon-greedy":
            return EpsilonGreedy(config.epsilon)
        case "greedy":
            return Greedy()
        case "random":
            return Random()
