"""Which prompts and seeds a pull gets: hashes of the run's seed, never of what happened."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field

from bigpe.agents.messages import CampaignPlan, RewriteTask
from bigpe.agents.snapshots import ByTuple
from bigpe.services.values import Instruction, derive_seed


def image_seed(plan: CampaignPlan, naive: str, draw: int) -> int:
    """The `draw`-th seed of a fixed list per prompt: all arms share the naive pictures."""
    return derive_seed(plan.seed, "image", naive, draw)


def draw_prompts(plan: CampaignPlan, count: int, index: int | str) -> list[str]:
    """Prompts for a pull, without replacement."""
    rng = random.Random(derive_seed(plan.seed, "prompts", index))
    return rng.sample(plan.train, min(count, len(plan.train)))


@dataclass
class Draws:
    """How often each instruction met each naive prompt."""

    _drawn: ByTuple[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def task(self, plan: CampaignPlan, instruction: Instruction, naive: str) -> RewriteTask:
        """The prompt under this instruction, with seeds that no earlier pull of both had."""
        draw = self._drawn.get((instruction.id, naive), 0)
        self._drawn[instruction.id, naive] = draw + 1
        return RewriteTask(
            naive=naive,
            image_seed=image_seed(plan, naive, draw),
            llm_seed=derive_seed(plan.seed, "llm", instruction.id, naive, draw),
        )

    def forget(self, instructions: Collection[str]) -> None:
        """Drop the counts of instructions, by id, that are pulled no more."""
        for key in [key for key in self._drawn if key[0] in instructions]:
            del self._drawn[key]
