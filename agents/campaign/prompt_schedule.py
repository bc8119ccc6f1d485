"""The prompts and seeds of each pull.

The run's seed determines the order of the train prompts. In shared batches, every instruction gets
them in that order. So instructions are compared on equal prompts and seeds, and all share the
images of naive prompts.

In fresh batches, half of the prompts of a round (rounded down) are new in the run, until all were
used. The others had the round before, so that there are contrasts within a prompt. Rounds that
overlap in time have equal batches: the child of a round is pulled in one of the next ones, and
meets half of the prompts of its parent.
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
    _start: int = 0
    """Place of the first prompt of a fresh batch in the run's order."""
    _given: int = 0
    """Number of rounds with the present fresh batch."""

    def tasks(self, plan: CampaignPlan, instruction: Instruction) -> list[RewriteTask]:
        """The batch of the next pull, with seeds that are new for the instruction and prompt."""
        return [
            self._task(plan, instruction, naive)
            for naive in self._batch(plan, instruction)
            for _ in range(plan.seeds_per_prompt)
        ]

    def _batch(self, plan: CampaignPlan, instruction: Instruction) -> list[str]:
        order = _order(plan.seed, plan.train)
        size = min(plan.batch_size, len(order))
        if plan.batches == "fresh":
            start = self._fresh(plan, size)
        else:
            start = self._met.get(instruction.id, 0)
            self._met[instruction.id] = start + size
        return [order[place % len(order)] for place in range(start, start + size)]

    def _fresh(self, plan: CampaignPlan, size: int) -> int:
        if self._given >= plan.concurrency:
            self._start += max(1, size // 2)
            self._given = 0
        self._given += 1
        return self._start

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
