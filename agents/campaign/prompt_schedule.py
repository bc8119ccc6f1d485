"""Which prompts and seeds a pull gets.

Every instruction meets the train prompts in one order, drawn by the run's seed. So instructions are
compared on equal prompts and pictures, and their naive pictures are painted once for all: what
a budget buys is rewrites.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

from bigpe.agents.campaign.snapshot import ByTuple
from bigpe.agents.messages.core import RewriteTask
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.services.core.values import Instruction, derive_seed


def image_seed(plan: CampaignPlan, naive: str, draw: int) -> int:
    """The `draw`-th seed of a fixed list per prompt: all arms share the naive pictures."""
    return derive_seed(plan.seed, "image", naive, draw)


def pilot_prompts(plan: CampaignPlan) -> list[str]:
    """Those of the pilot: the first that every instruction meets."""
    return list(_order(plan.seed, plan.train)[: plan.pilot_prompts])


@lru_cache(maxsize=8)
def _order(seed: int, train: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(random.Random(derive_seed(seed, "prompts")).sample(train, len(train)))


@dataclass
class PromptSchedule:
    """What each instruction met."""

    _met: dict[str, int] = field(default_factory=dict[str, int])
    """How many prompts of the run's order."""
    _drawn: ByTuple[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """How often each naive prompt."""

    def tasks(self, plan: CampaignPlan, instruction: Instruction) -> list[RewriteTask]:
        """The batch of its next pull, each prompt with seeds that no earlier pull of both had."""
        return [
            self._task(plan, instruction, naive)
            for naive in self._batch(plan, instruction)
            for _ in range(plan.seeds_per_prompt)
        ]

    def _batch(self, plan: CampaignPlan, instruction: Instruction) -> list[str]:
        order = _order(plan.seed, plan.train)
        met = self._met.get(instruction.id, 0)
        self._met[instruction.id] = after = met + min(plan.batch_size, len(order))
        return [order[place % len(order)] for place in range(met, after)]

    def _task(self, plan: CampaignPlan, instruction: Instruction, naive: str) -> RewriteTask:
        draw = self._drawn.get((instruction.id, naive), 0)
        self._drawn[instruction.id, naive] = draw + 1
        return RewriteTask(
            naive=naive,
            image_seed=image_seed(plan, naive, draw),
            llm_seed=derive_seed(plan.seed, "llm", instruction.id, naive, draw),
        )

    def forget(self, instructions: Collection[str]) -> None:
        """Drop the counts of instructions, by id, that are pulled no more."""
        for id in instructions:
            self._met.pop(id, None)
        for key in [key for key in self._drawn if key[0] in instructions]:
            del self._drawn[key]
