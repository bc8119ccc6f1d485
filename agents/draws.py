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

from bigpe.agents.messages import CampaignPlan, RewriteTask
from bigpe.services.values import Instruction, derive_seed


def image_seed(plan: CampaignPlan, naive: str, draw: int) -> int:
    """The `draw`-th seed of a fixed list per prompt: all arms share the naive pictures."""
    return derive_seed(plan.seed, "image", naive, draw)


@lru_cache(maxsize=8)
def prompt_order(seed: int, train: tuple[str, ...]) -> tuple[str, ...]:
    """The run's order of its train prompts, in which every instruction meets them."""
    return tuple(random.Random(derive_seed(seed, "prompts")).sample(train, len(train)))


@dataclass
class Draws:
    """How many prompts each instruction has met."""

    _met: dict[str, int] = field(default_factory=dict[str, int])

    def tasks(self, plan: CampaignPlan, instruction: Instruction) -> list[RewriteTask]:
        """The instruction's next batch: prompts in the run's order, with seeds new to it."""
        order = prompt_order(plan.seed, plan.train)
        met = self._met.get(instruction.id, 0)
        batch = min(plan.batch_size, len(order))
        self._met[instruction.id] = met + batch
        each = plan.seeds_per_prompt
        return [
            _task(plan, instruction, order[place % len(order)], place // len(order) * each + k)
            for place in range(met, met + batch)
            for k in range(each)
        ]

    def forget(self, instructions: Collection[str]) -> None:
        """Drop the counts of instructions, by id, that are pulled no more."""
        for id in instructions:
            self._met.pop(id, None)


def _task(plan: CampaignPlan, instruction: Instruction, naive: str, draw: int) -> RewriteTask:
    return RewriteTask(
        naive=naive,
        image_seed=image_seed(plan, naive, draw),
        llm_seed=derive_seed(plan.seed, "llm", instruction.id, naive, draw),
    )
