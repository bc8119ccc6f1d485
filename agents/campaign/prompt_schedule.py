"""The prompts and seeds of each pull.

Every instruction gets the train prompts in the same order, which the run's seed determines. So
instructions are compared on equal prompts and seeds, and all share the images of naive prompts.
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
    """The image seed number `draw` of a naive prompt. It is the same for all arms."""
    return derive_seed(plan.seed, "image", naive, draw)


def pilot_prompts(plan: CampaignPlan) -> list[str]:
    """The prompts of the pilot: the first prompts that every instruction gets."""
    return list(_order(plan.seed, plan.train)[: plan.pilot_prompts])


@lru_cache(maxsize=8)
def _order(seed: int, train: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(random.Random(derive_seed(seed, "prompts")).sample(train, len(train)))


@dataclass
class PromptSchedule:
    """Counts of the prompts that each instruction got."""

    _met: dict[str, int] = field(default_factory=dict[str, int])
    """Number of prompts in the run's order, by instruction."""
    _drawn: ByTuple[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """Number of times, by instruction and naive prompt."""

    def tasks(self, plan: CampaignPlan, instruction: Instruction) -> list[RewriteTask]:
        """The batch of the next pull, with seeds that are new for the instruction and prompt."""
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
        """Drop the counts of retired instructions, given by id."""
        for id in instructions:
            self._met.pop(id, None)
        for key in [key for key in self._drawn if key[0] in instructions]:
            del self._drawn[key]
