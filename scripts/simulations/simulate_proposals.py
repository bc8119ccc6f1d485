"""What a run returns if its proposals are good on average, by simulation: JSON lines.

    python scripts simulations.simulate_proposals > docs/figures/proposals.jsonl
    python scripts simulations.simulate_proposals --runs 10 --only proposals
    python scripts simulations.simulate_proposals --only concurrency --rounds 8 16 32 64 96

Policy, pool and prompts of a pull are bigpe's. An instruction is modelled by its true mean gain; a
child has that of its parent, and goes a share of the way to a ceiling. A figure is the true mean
gain of the returned instruction on prompts that no run sees, score x 100, at the end of 8, 16 and
32 rounds of four prompts, two in flight. Run seeds are the same for all rules.
"""

from __future__ import annotations

import argparse
import math
import random
import zlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from benchmarks.figures import say

from bigpe.agents.bandit.policies import Policy, PolicyConfig, make_policy
from bigpe.agents.bandit.pool import Pool, admission_of
from bigpe.agents.campaign.prompt_schedule import PromptSchedule
from bigpe.agents.messages.core import RewriteTask
from bigpe.agents.statistics.intervals import mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.services.core.values import Instruction
from bigpe.testing.campaigns import plan

SEEDS, TRAIN, BATCH = 4, 24, 4
HORIZONS = (8, 16, 32)
PICTURE, NAIVE = 5.5, 4.0
"""Noise of the picture of a rewrite, and of a naive prompt, which all rewrites share at a seed."""
PROMPT, TASTE = 4.0, 3.5
"""Spread of the gains of prompts, shared by instructions, and of an instruction over prompts. All
four together give a single gain a standard deviation of 8.6."""
INHERITED = 0.7
"""Correlation of a child's taste in prompts with its parent's."""
SIGMA = math.hypot(PICTURE, NAIVE)
"""The noise of a gain at a fixed prompt and instruction, which the pilot estimates."""


@dataclass(frozen=True)
class World:
    """What is assumed of seed instructions and proposals; gains are score x 100."""

    seeds: float = 0.0
    """Mean true gain of seed instructions; their standard deviation is 4."""
    ceiling: float = 15.0
    step: float = 0.25
    """The share of the way to the ceiling that a child goes on average."""
    noise: float = 3.0
    """Standard deviation of what a child gains over its parent."""
    blind: float = 1.0
    """Factor of the step if no prompt of the batch was rewritten before, so without contrasts."""
    stale: float = 1.0
    """Factor of the step for each earlier round with the same batch."""


@dataclass(frozen=True)
class Rules:
    """The rules of a search."""

    policy: str = "lineage"
    exploration: float | None = None
    seeds_first: int = 0
    """Seed instructions that are tried before anything else."""
    pool_size: int = 4
    children_after: int = 1
    """Pulls of an instruction before it may have children."""
    proposals: int = 1
    batches: str = "shared"
    concurrency: int = 2


class Item(NamedTuple):
    """An instruction."""

    true: float
    taste: dict[str, float]
    """By train prompt."""


class Pull(NamedTuple):
    """A pull in flight."""

    arm: str
    gains: list[tuple[str, float]]
    step: float
    """Factor of the step of its children."""


@dataclass
class Run:
    """One run. Each random number depends on the seed and on what it is for."""

    seed: int
    world: World
    rules: Rules
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    children: dict[str, int] = field(default_factory=dict[str, int])
    met: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    batches: dict[frozenset[str], int] = field(default_factory=dict[frozenset[str], int])

    def __post_init__(self) -> None:
        rules = self.rules
        self.plan = plan(
            seed=self.seed,
            batch_size=BATCH,
            concurrency=rules.concurrency,
            batches=rules.batches,
            train=tuple(f"prompt {index}" for index in range(TRAIN)),
        )
        self.schedule = PromptSchedule()
        self.policy: Policy = make_policy(
            PolicyConfig(name=rules.policy, exploration=rules.exploration)
        )
        seeds = [Instruction(text=f"seed {index}") for index in range(SEEDS)]
        for seed in seeds:
            rng = self.rng("seed", seed.text)
            taste = {naive: rng.gauss(0, TASTE) for naive in self.plan.train}
            self.items[seed.id] = Item(rng.gauss(self.world.seeds, 4.0), taste)
        self.pool = Pool(seeds, size=rules.pool_size, admission=admission_of(rules.policy))

    def rng(self, *place: object) -> random.Random:
        return random.Random(zlib.crc32(repr((self.seed, *place)).encode()))

    def returned(self, horizons: Sequence[int] = HORIZONS) -> dict[int, float]:
        """The true gain of what is returned, by the number of rounds."""
        flight: dict[int, Pull] = {}
        found: dict[int, float] = {}
        for index in range(1, max(horizons) + 1):
            done = index - self.rules.concurrency
            if done > 0:
                self.settle(done, flight.pop(done))
            arm = self.choose(index)
            self.pool.start_pull(arm, index, BATCH)
            flight[index] = self.pull(arm)
            if index in horizons:
                found[index] = self.items[self.best(flight)].true
        return found

    def choose(self, index: int) -> str:
        arms = self.pool.arms()
        seeds = [arm for arm in arms if not arm.ancestors]
        untried = [arm.id for arm in seeds if not arm.tried]
        if untried and len(seeds) - len(untried) < self.rules.seeds_first:
            return untried[0]
        return self.policy.select(arms, SIGMA, self.rng("select", index))

    def best(self, flight: dict[int, Pull]) -> str:
        """The returned instruction, once the pulls in flight have ended."""
        pool = deepcopy(self.pool)
        for index, pulled in flight.items():
            pool.finish_pull(pulled.arm, index, pulled.gains)
        return pool.best().instruction.id

    def pull(self, arm: str) -> Pull:
        tasks = self.schedule.tasks(self.plan, self.pool.instruction(arm))
        contrast = any((task.naive, task.image_seed) in self.met for task in tasks)
        self.met |= {(task.naive, task.image_seed) for task in tasks}
        batch = frozenset(task.naive for task in tasks)
        earlier = self.batches.get(batch, 0)
        self.batches[batch] = earlier + 1
        step = self.world.stale**earlier * (1.0 if contrast else self.world.blind)
        return Pull(arm, [(task.naive, self.gain(arm, task)) for task in tasks], step)

    def gain(self, arm: str, task: RewriteTask) -> float:
        item, naive, seed = self.items[arm], task.naive, task.image_seed
        prompt = self.rng("prompt", naive).gauss(0, PROMPT)
        drawn = self.rng("rewrite", arm, naive, seed).gauss(0, PICTURE)
        shared = self.rng("naive", naive, seed).gauss(0, NAIVE)
        return item.true + item.taste[naive] + prompt + drawn - shared

    def settle(self, index: int, pulled: Pull) -> None:
        room = self.pool.has_room(index)
        self.pool.finish_pull(pulled.arm, index, pulled.gains)
        pulls = {row.instruction.id: row.pulls for row in self.pool.rows()}[pulled.arm]
        if room and pulls >= self.rules.children_after:
            for _ in range(self.rules.proposals):
                self.propose(pulled, index)
        self.pool.settle(self.policy, SIGMA)

    def propose(self, pulled: Pull, index: int) -> None:
        parent, world = self.items[pulled.arm], self.world
        number = self.children[pulled.arm] = self.children.get(pulled.arm, 0) + 1
        rng = self.rng("child", pulled.arm, number)
        way = pulled.step * world.step * (world.ceiling - parent.true)
        true = min(parent.true + way + rng.gauss(0, world.noise), world.ceiling)
        own = math.sqrt(1 - INHERITED**2) * TASTE
        taste = {n: INHERITED * t + rng.gauss(0, own) for n, t in parent.taste.items()}
        child = Instruction(text=f"child {number} of {pulled.arm}")
        self.items[child.id] = Item(true, taste)
        self.pool.propose(child, parent=pulled.arm, round=index, gradient_mid="")


USUAL = Rules(batches="fresh", proposals=2)
"""The rules of the free-form style."""
BASE = World()
WORLDS = {
    "usual": BASE,
    "slow": replace(BASE, step=0.12, ceiling=20.0),
    "weak seeds": replace(BASE, seeds=-5.0),
    "proposals as good as their parents": replace(BASE, step=0.0, ceiling=20.0),
}
BEFORE = Rules(policy="ucb1")
SINGLE = Rules()
POLICIES = {
    "ucb1": BEFORE,
    "greedy": replace(BEFORE, policy="greedy"),
    "lineage": SINGLE,
    "lineage without exploration": replace(SINGLE, exploration=0.0),
    "free-form style": USUAL,
}
VARIANTS = {
    "seeds": {f"first {n} seeds": replace(SINGLE, seeds_first=n) for n in (1, 2, 4)},
    "pool": {f"pool of {n}": replace(USUAL, pool_size=n) for n in (2, 4, 8)},
    "children": {f"after {n} pulls": replace(USUAL, children_after=n) for n in (1, 2)},
    "concurrency": {f"{n} in flight": replace(USUAL, concurrency=n) for n in (1, 2, 4, 8, 12, 16)},
    "proposals": {f"{n} proposals": replace(USUAL, proposals=n) for n in (1, 2, 3, 4)},
}
GRADIENTS = {
    "equal gradients": BASE,
    "half a step without contrasts": replace(BASE, blind=0.5),
    "0.8 of a step per repeated batch": replace(BASE, stale=0.8),
    "both": replace(BASE, blind=0.5, stale=0.8),
}


def settings() -> list[tuple[str, World, Rules]]:
    """Name, world and rules of each figure, grouped by the first part of the name."""
    found = [
        (f"policy/{place}/{name}", world, rules)
        for place, world in WORLDS.items()
        for name, rules in POLICIES.items()
    ]
    found += [
        (f"{group}/usual/{name}", BASE, rules)
        for group, variants in VARIANTS.items()
        for name, rules in variants.items()
    ]
    found += [
        (f"batches/{place}/{batches}", world, replace(USUAL, batches=batches))
        for place, world in GRADIENTS.items()
        for batches in ("shared", "fresh")
    ]
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=80, help="run seeds for each figure")
    parser.add_argument("--first", type=int, default=0, help="the first run seed")
    parser.add_argument("--only", default="", help="the group of figures, for example policy")
    parser.add_argument("--rounds", type=int, nargs="+", default=HORIZONS, help="rounds of a run")
    given = parser.parse_args()
    for name, world, rules in settings():
        if not name.startswith(given.only):
            continue
        seeds = range(given.first, given.first + given.runs)
        runs = [Run(seed, world, rules).returned(given.rounds) for seed in seeds]
        for rounds in given.rounds:
            gains = [run[rounds] for run in runs]
            interval = mean_interval(gains)
            say(
                figure=f"{name}/{rounds} rounds",
                value=round(mean(gains), 2),
                unit="score x 100",
                how="true mean gain of the returned instruction; 95% interval over run seeds",
                n=len(gains),
                lo=None if interval.lo is None else round(interval.lo, 2),
                hi=None if interval.hi is None else round(interval.hi, 2),
            )


if __name__ == "__main__":
    main()
