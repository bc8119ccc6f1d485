"""The policy for proposals that are good on average: a child is expected to beat its parent.

The mean gain of an instruction has a normal posterior along its lineage. A seed instruction starts
at 0, the gain of naive prompts. A child starts at the posterior of its parent plus a drift. So an
untried child of the best instruction comes first, and that of a weak one is never pulled. Seed
instructions are tried while none has children that promise more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bigpe.agents.bandit.arm_view import Arm

SEED_VARIANCE = 0.5
"""Of the mean gains of seed instructions, in units of the squared noise of one gain."""
DRIFT = 0.25
"""What a child gains over its parent on average, in units of the noise of one gain: two points of a
noise of eight. The result hardly depends on it (docs/reasoning.md)."""
STEP_VARIANCE = 0.15
"""Of what a child gains over its parent, in units of the squared noise of one gain."""
PROMPTS_VARIANCE = 0.5
"""What the differences of prompts add to the squared noise of one gain, in its units."""


class Posterior(NamedTuple):
    """The mean gain of an instruction, in units of the noise of one gain."""

    mean: float
    variance: float

    @property
    def lower_bound(self) -> float:
        """The mean less half a standard deviation: of equal means, the surer one is better."""
        return self.mean - math.sqrt(self.variance) / 2

    def after(self, n: int, mean: float) -> Posterior:
        """The posterior after `n` gains with this mean."""
        if not n:
            return self
        weight = self.variance / (self.variance + (1 + PROMPTS_VARIANCE) / n)
        return Posterior(self.mean + weight * (mean - self.mean), self.variance * (1 - weight))


@dataclass(frozen=True)
class Lineage:
    """The highest posterior mean + c posterior standard deviations along the lineage.

    Gains of pulls in flight narrow the posterior as if they equalled its mean. Of untried arms with
    equal bounds, the newest child comes first, and the first of seed instructions.
    """

    exploration: float = 1.0

    def select(self, arms: Sequence[Arm], scale: float, rng: random.Random) -> str:
        """See the class. Equal bounds of tried arms are decided at random."""
        bounds = {arm.id: self.upper_bound(arm, arms, scale) for arm in arms}
        top = max(bounds.values())
        best = [arm for arm in arms if bounds[arm.id] == top]
        untried = [arm for arm in best if not arm.tried]
        if untried:
            return untried[-1 if untried[-1].ancestors else 0].id
        return rng.choice(sorted(arm.id for arm in best))

    def upper_bound(self, arm: Arm, arms: Sequence[Arm], scale: float) -> float:
        """See `Policy.upper_bound`. It is finite for an untried arm, too."""
        mean, variance = posterior(arm, scale)
        return mean + self.exploration * math.sqrt(variance)

    def reward(self, arm: Arm, scale: float) -> float:
        """The mean gain in units of the noise of one gain."""
        return arm.mean / scale


def posterior(arm: Arm, scale: float) -> Posterior:
    """The posterior of the arm's mean gain, given its gains and those of its ancestors.

    Args:
        arm: The instruction.
        scale: Standard deviation of one gain, score units; > 0.
    """
    found = Posterior(0.0, SEED_VARIANCE)
    for gains in reversed(arm.ancestors):
        found = found.after(gains.n, gains.mean / scale)
        found = Posterior(found.mean + DRIFT, found.variance + STEP_VARIANCE)
    found = found.after(arm.gains.n, arm.mean / scale)
    return found.after(arm.pending_gains, found.mean)
