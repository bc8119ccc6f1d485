"""A pool that is played as a campaign plays it, on gains that a seed draws."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field

from bigpe.agents.bandit.policies import PolicyConfig, make_policy, selection_rng
from bigpe.agents.bandit.pool import POOL_GROWTH_FACTOR, Pool, PoolDelta, admission_of
from bigpe.services.core.values import Instruction

SCALE = 0.01


def seeds(count: int = 2) -> list[Instruction]:
    return [Instruction(text=f"seed {i}") for i in range(count)]


@dataclass
class Trace:
    """What a simulated run did."""

    pool: Pool
    pulls: list[str] = field(default_factory=list[str])
    repeats: int = 0
    """Pulls of an arm that had been pulled before."""
    deltas: list[PoolDelta] = field(default_factory=list[PoolDelta])
    sizes: list[int] = field(default_factory=list[int])
    longest_block: int = 0
    """Rounds in a row in which the growth rule let a newcomer in and the pool did not."""
    leaders_lost: int = 0


def play(
    *,
    name: str = "ucb1",
    size: int = 4,
    rounds: int = 40,
    batch: int = 3,
    flight: int = 1,
    spread: float = 0.02,
    noise: float = 0.01,
    loss: float = 0.0,
    seed: int = 0,
    again: int = 0,
) -> Trace:
    """A run as the campaign does it: pull t is chosen after t - `flight` are settled.

    `again`: instructions that may be proposed, all new ones if 0.
    """
    nature = random.Random(seed)
    policy = make_policy(PolicyConfig(name=name))
    pool = Pool(seeds(), size=size, admission=admission_of(name))
    trace = Trace(pool)
    worth: dict[str, float] = {}
    flying: deque[tuple[int, str]] = deque()
    blocked = 0
    for index in range(1, rounds + flight):
        if index <= rounds:
            arm = policy.select(pool.arms(), SCALE, selection_rng(seed, index))
            trace.repeats += arm in trace.pulls
            trace.pulls.append(arm)
            pool.start_pull(arm, index, batch)
            flying.append((index, arm))
        if index < flight:
            continue
        done, arm = flying.popleft()
        centre = worth.setdefault(arm, nature.gauss(0, spread))
        gains = [(f"p{nature.randrange(30)}", nature.gauss(centre, noise)) for _ in range(batch)]
        pool.finish_pull(arm, done, gains if nature.random() >= loss else [])
        child = Instruction(text=f"child {done} of {arm[:6]}")
        if again:
            child = Instruction(text=f"child {nature.randrange(again)}")
        pool.propose(child, parent=arm, round=done, gradient_mid="m", improvement=f"more {done}")
        leader = leader_of(pool)
        ever = 2 + sum(len(delta.admitted) for delta in trace.deltas)
        delta = pool.settle(policy, SCALE)
        trace.deltas.append(delta)
        trace.sizes.append(len(pool.living()))
        trace.leaders_lost += leader in {gone for gone, why in delta.retired if "room" in why}
        due = ever < math.ceil(POOL_GROWTH_FACTOR * math.sqrt(done + 1))
        blocked = blocked + 1 if due and not delta.admitted else 0
        trace.longest_block = max(trace.longest_block, blocked)
    return trace


def leader_of(pool: Pool) -> str:
    """The living arm with the highest lower bound, else mean."""
    rows = [row for row in pool.rows() if row.state == "living"]
    bounded = [(row.lo, row) for row in rows if row.lo is not None and row.gains > 1]
    averaged = [(row.mean, row) for row in rows if row.mean is not None]
    ranked = sorted(bounded or averaged, key=lambda existing: -existing[0])
    return ranked[0][1].instruction.id if ranked else ""
