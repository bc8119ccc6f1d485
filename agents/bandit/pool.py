"""The pool of instructions: active, waiting and retired ones. A fold, without a clock.

The pool admits an instruction only while the number of arms ever admitted is below
ceil(pool_growth_factor sqrt(finished pulls + 1)), the rule for infinitely many arms (Wang,
Audibert & Munos 2008, with beta = 1): each new arm costs pulls. Other instructions wait.

In a full pool a new instruction replaces the arm with the lowest upper bound among the arms with
a finished pull. One pull is enough, because instructions differ by more than the mean of a batch
does by chance (docs/decisions/0020). After 2 `size` - 1 rounds in which no arm could leave, an arm
may leave while a pull of it is in flight. The result of that pull is still recorded.

Under the policy "lineage" all proposals are admitted at once, and then the pool gives up the arms
with the lowest upper bounds, tried or not. So a child of a weak parent may leave without a pull.

Records of retired instructions are kept: one may be the best, and none may be proposed again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bigpe.agents.bandit.arm import ArmRecord, State, ancestors_of
from bigpe.agents.bandit.arm_view import Arm
from bigpe.agents.bandit.lineage import posterior
from bigpe.agents.bandit.policies import Policy
from bigpe.agents.statistics.intervals import moderated_mean
from bigpe.agents.statistics.moments import SumOfSquares, summed
from bigpe.services.core.values import Instruction

Admission = Literal["growth", "all", "paper"]
"""How proposals come into the pool: at the rate of the module's rule; all at once; or all at once
in the place of their parents, as in arXiv 2406.08713."""
POOL_GROWTH_FACTOR = 5.0
"""Admission rate of new instructions: a run of 20 rounds pulls another instruction in nearly each
round, and a run of 200 rounds pulls each instruction three times."""
BACKLOG = 4
"""Maximum number of waiting instructions per place in the pool."""
SAME_REWRITES = "its rewrites equal those of its parent"
EMPTY_PULLS = 2
"""Pulls after which an arm without any result is retired."""
PRIOR_DF = 4.0
"""Degrees of freedom of the prior that shrinks an arm's variance to that of all arms."""
REPORTED_IMPROVEMENTS = 5
"""Number of earlier improvements with results in a request for the next improvement."""


def admission_of(policy: object) -> Admission:
    """How proposals come into the pool under the policy with this name."""
    if policy == "paper":
        return "paper"
    return "all" if policy == "lineage" else "growth"


class PoolRow(NamedTuple):
    """The results of an instruction, as tables and decisions use them."""

    instruction: Instruction
    pulls: int
    gains: int
    """Number of finished gains."""
    mean: float | None
    """Mean gain over naive prompts, score units."""
    lo: float | None
    hi: float | None
    """95% interval of the mean, clustered by naive prompt."""
    parent: str | None
    born_round: int
    state: str
    author: str = ""
    """The author of its gradient; "" for a seed instruction."""
    improvement: str = ""
    """The improvement of its gradient."""
    operator: str = ""
    change: str = ""
    """How it was made, and what differs from its parent, for styles with operators."""


class PoolDelta(NamedTuple):
    """The changes of the pool in a settled round."""

    admitted: tuple[str, ...]
    retired: tuple[tuple[str, str], ...]
    """Pairs (id, reason)."""
    waiting: int


@dataclass(init=False)
class Pool:
    """The instructions of a run. Its methods change it, in round order; a snapshot stores it."""

    _size: int
    _pool_growth_factor: float
    _admission: Admission
    _records: dict[str, ArmRecord]
    _finished: int
    _blocked: int
    _scale: float

    def __init__(
        self,
        seeds: Sequence[Instruction],
        *,
        size: int,
        pool_growth_factor: float = POOL_GROWTH_FACTOR,
        admission: Admission = "growth",
    ) -> None:
        """Make a pool in which all seeds are living.

        Args:
            seeds: The first instructions, at least one.
            size: Maximum number of living instructions after the start, >= 2.
            pool_growth_factor: Admission rate of new instructions, > 0.
            admission: How proposals come into the pool.

        Raises:
            ValueError: There is no seed, or `size` is below 2.
        """
        if not seeds or size < 2:
            raise ValueError(f"a pool of {len(seeds)} seeds and {size} places compares nothing")
        self._size = size
        self._pool_growth_factor = pool_growth_factor
        self._admission: Admission = admission
        self._records = {seed.id: ArmRecord(seed, "living") for seed in seeds}
        self._finished = 0
        self._blocked = 0
        self._scale = 0.0

    # -- reading ------------------------------------------------------------------------------

    def instruction(self, id: str) -> Instruction:
        """The instruction with that id. Raises KeyError if the pool never had it."""
        return self._records[id].instruction

    def living(self) -> list[Instruction]:
        """The instructions that may be pulled, oldest first."""
        return [record.instruction for record in self._in("living")]

    def waiting(self) -> list[Instruction]:
        """The instructions that are not admitted yet, oldest first."""
        return [record.instruction for record in self._in("waiting")]

    def arms(self) -> list[Arm]:
        """The living instructions' records, for a policy."""
        return [record.arm(ancestors_of(record, self._records)) for record in self._in("living")]

    def noise(self) -> SumOfSquares:
        """Squared deviations of gains at a fixed instruction and naive prompt."""
        return summed(record.figures.within for record in self._records.values())

    def rows(self) -> list[PoolRow]:
        """Every instruction that was ever admitted, in the order of admission."""
        prior = self._pooled_variance()
        return [self._row(r, prior) for r in self._records.values() if r.state != "waiting"]

    def best(self) -> PoolRow:
        """The living or retired instruction with the highest lower bound and at least two gains.

        If there is none, the instruction with the highest mean; without any result, the first seed.
        Under the policy "lineage" the lower bound is that of the posterior along the lineage: a
        child of a good parent has needed fewer gains to be as sure.
        """
        return self._best_of(r for r in self._records.values() if r.state != "waiting")

    def untried_parent(self, id: str) -> str | None:
        """The parent of an instruction without any gain; None for others and for seeds."""
        record = self._records[id]
        return None if record.count else record.parent

    def has_room(self, finished: int) -> bool:
        """Whether the pool may admit an instruction once `finished` pulls have ended."""
        ever = sum(record.state != "waiting" for record in self._records.values())
        return self._admission != "growth" or ever < math.ceil(
            self._pool_growth_factor * math.sqrt(finished + 1)
        )

    def memory(self) -> tuple[str, ...]:
        """The latest `REPORTED_IMPROVEMENTS` improvements with their mean gains, newest last."""
        tried = [record for record in self._records.values() if record.improvement and record.count]
        return tuple(
            f"{record.improvement} (mean gain {record.figures.mean:+.4f}, n={record.count})"
            for record in tried[-REPORTED_IMPROVEMENTS:]
        )

    # -- changing -----------------------------------------------------------------------------

    def start_pull(self, id: str, index: int, expected_gains: int) -> None:
        """Record that pull `index` of this instruction is in flight. Raises KeyError."""
        self._records[id].pending[index] = expected_gains

    def finish_pull(self, id: str, index: int, gains: Sequence[tuple[str, float]]) -> None:
        """Record the (naive prompt, gain) pairs of pull `index`; empty if all were lost.

        The arm may have been retired meanwhile. Raises KeyError if no such pull is in flight.
        """
        self._records[id].finish_pull(index, gains)
        self._finished += 1

    def propose(
        self,
        instruction: Instruction,
        *,
        parent: str,
        round: int,
        gradient_mid: str,
        author: str = "",
        improvement: str = "",
        operator: str = "",
        change: str = "",
    ) -> bool:
        """Add a new instruction to the waiting list. False if the pool ever had its id."""
        if instruction.id in self._records:
            return False
        self._records[instruction.id] = ArmRecord(
            instruction,
            "waiting",
            parent=parent,
            born_round=round,
            gradient_mid=gradient_mid,
            author=author,
            improvement=improvement,
            operator=operator,
            change=change,
        )
        return True

    def settle(self, policy: Policy, scale: float, *, unchanged: str = "") -> PoolDelta:
        """End a round: retire and admit instructions.

        Args:
            policy: Decides which instruction a full pool gives up.
            scale: Noise of one gain, score units.
            unchanged: Id of an instruction whose rewrites equal its parent's. It is retired, unless
                it is the only living one.
        """
        self._scale = scale
        admitted: list[str] = []
        retired = self._retire_empty()
        same = self._records.get(unchanged)
        if same is not None and same.state == "living" and len(self._in("living")) > 1:
            retired.append(self._retire(same, SAME_REWRITES))
        if self._admission == "growth":
            self._settle_one(policy, scale, admitted, retired)
        else:
            self._settle_all(policy, scale, admitted, retired)
        waiting = self._ranked(self._in("waiting"))
        for record in waiting[BACKLOG * self._size :]:
            del self._records[record.instruction.id]
        return PoolDelta(tuple(admitted), tuple(retired), len(self._in("waiting")))

    # -- rules --------------------------------------------------------------------------------

    def _retire_empty(self) -> list[tuple[str, str]]:
        retired: list[tuple[str, str]] = []
        for record in self._in("living"):
            hopeless = record.empty_pulls >= EMPTY_PULLS and not record.count
            if hopeless and not record.pending and len(self._in("living")) > 1:
                reason = f"{record.empty_pulls} pulls gave no result"
                retired.append(self._retire(record, reason))
        return retired

    def _settle_one(
        self, policy: Policy, scale: float, admitted: list[str], retired: list[tuple[str, str]]
    ) -> None:
        waiting = self._ranked(self._in("waiting"))
        if not waiting or not self.has_room(self._finished):
            return
        if len(self._in("living")) >= self._size:
            weakest = self._weakest(policy, scale)
            if weakest is None:
                self._blocked += 1
                return
            reason = (
                f"lowest upper bound of the pool; makes room for {waiting[0].instruction.id[:8]}"
            )
            retired.append(self._retire(weakest, reason))
        admitted.append(self._admit(waiting[0]))
        self._blocked = 0

    def _settle_all(
        self, policy: Policy, scale: float, admitted: list[str], retired: list[tuple[str, str]]
    ) -> None:
        """Admit every proposal, then keep the arms with the highest bounds."""
        for record in self._in("waiting"):
            admitted.append(self._admit(record))
            parent = self._records.get(record.parent or "")
            if self._admission == "paper" and parent is not None and parent.state == "living":
                retired.append(self._retire(parent, f"replaced by {record.instruction.id[:8]}"))
        while len(self._in("living")) > self._size:
            arms = self.arms()
            free = arms if self._admission == "paper" else self._spare(arms)
            if not free:
                return
            weakest = min(free, key=lambda arm: (policy.upper_bound(arm, arms, scale), arm.id))
            reason = "lowest upper bound of the pool"
            retired.append(self._retire(self._records[weakest.id], reason))

    def _spare(self, arms: Sequence[Arm]) -> list[Arm]:
        """Those without a pull in flight, without the best."""
        leader = self._best_of(self._in("living"))
        return [a for a in arms if a.id != leader.instruction.id and not a.pending_pulls]

    def _weakest(self, policy: Policy, scale: float) -> ArmRecord | None:
        """The living arm to retire: it has a finished pull, none in flight, and is not the best."""
        leader = self._best_of(self._in("living")).instruction.id
        arms = self.arms()
        hurry = self._blocked >= 2 * self._size - 1
        free = [
            arm
            for arm in arms
            if arm.id != leader and arm.finished_pulls and (hurry or not arm.pending_pulls)
        ]
        if not free:
            return None
        worst = min(free, key=lambda arm: (policy.upper_bound(arm, arms, scale), arm.id))
        return self._records[worst.id]

    def _ranked(self, waiting: Sequence[ArmRecord]) -> list[ArmRecord]:
        """Sorted by the parent's mean gain, best first; ties by age, youngest first."""

        def promise(record: ArmRecord) -> tuple[float, int]:
            parent = self._records.get(record.parent or "")
            gain = parent.figures.mean if parent and parent.count else 0.0
            return (-gain, -record.born_round)

        return sorted(waiting, key=promise)

    def _admit(self, record: ArmRecord) -> str:
        record.state = "living"
        # Admission order is the order of the table and of first pulls.
        self._records[record.instruction.id] = self._records.pop(record.instruction.id)
        return record.instruction.id

    def _retire(self, record: ArmRecord, reason: str) -> tuple[str, str]:
        record.retire(reason)
        return (record.instruction.id, reason)

    def _in(self, state: State) -> list[ArmRecord]:
        return [record for record in self._records.values() if record.state == state]

    # -- figures ------------------------------------------------------------------------------

    def _pooled_variance(self) -> float | None:
        """Variance between naive prompts within an arm, pooled over all arms."""
        return summed(record.figures.between for record in self._records.values()).variance

    def _best_of(self, records: Iterable[ArmRecord]) -> PoolRow:
        """The best of `records`, of which there is at least one."""
        found, prior = [*records], self._pooled_variance()
        tried = [record for record in found if record.count]
        if self._admission != "all" or not self._scale or not tried:
            return _best([self._row(record, prior) for record in found])
        arms = ((record.arm(ancestors_of(record, self._records)), record) for record in tried)
        bounds = [(posterior(arm, self._scale).lower_bound, record) for arm, record in arms]
        return self._row(max(bounds, key=lambda pair: pair[0])[1], prior)

    def _row(self, record: ArmRecord, prior: float | None) -> PoolRow:
        figures, bounds = record.figures, (None, None, None)
        if record.count:
            bounds = moderated_mean(figures.mean, figures.prompts, figures.between, prior, PRIOR_DF)
        state = f"retired: {record.reason}" if record.state == "retired" else record.state
        return PoolRow(
            record.instruction,
            record.finished_pulls,
            record.count,
            *bounds,
            record.parent,
            record.born_round,
            state,
            record.author,
            record.improvement,
            record.operator,
            record.change,
        )


def _best(rows: Sequence[PoolRow]) -> PoolRow:
    """The best row; the earliest of equal rows. `rows` must not be empty."""
    bounded = [(row.lo, row) for row in rows if row.lo is not None and row.gains > 1]
    averaged = [(row.mean, row) for row in rows if row.mean is not None]
    return max(bounded or averaged or [(0.0, rows[0])], key=lambda pair: pair[0])[1]
