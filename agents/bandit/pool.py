"""The pool of instructions: who lives, who waits, who left and why. A fold, without a clock.

A new instruction costs pulls before anything is known of it, so newcomers are let in only while
arms ever admitted < ceil(growth sqrt(finished pulls + 1)): the rule for infinitely many arms
(Wang, Audibert & Munos 2008, with beta = 1). The others wait.

In a full pool a newcomer takes the place of the arm with the lowest upper bound of those with a
finished pull. One pull is enough, because instructions differ by more than the mean of a batch does
by chance (docs/decisions/0020). After 2 `size` - 1 rounds in which a newcomer was blocked, an arm
may leave while a pull of it is in flight. The result of that pull is still recorded.

The records of retired instructions stay: one of them may still be the best, and none may return.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bigpe.agents.bandit.arm import ArmRecord, State
from bigpe.agents.bandit.policies import Arm, Policy
from bigpe.agents.statistics.intervals import moderated_mean
from bigpe.agents.statistics.moments import SumOfSquares, summed
from bigpe.services.core.values import Instruction

Basis = Literal["lower bound", "mean", "nothing"]
"""Why an instruction is called the best; "nothing": no result yet, it is the first seed."""

POOL_GROWTH_FACTOR = 5.0
"""How fast newcomers come: a run of 20 rounds pulls another instruction in nearly each, and one of
200 rounds pulls each three times."""
BACKLOG = 4
"""Instructions that may wait, per place in the pool."""
EMPTY_PULLS = 2
"""Pulls without any result after which an arm is retired."""
PRIOR_DF = 4.0
"""Degrees of freedom by which an arm's variance is shrunk to that of all arms."""
REPORTED_IMPROVEMENTS = 5
"""Improvements whose result is part of a request for the next improvement."""


class PoolRow(NamedTuple):
    """An instruction's record, for people and decisions."""

    instruction: Instruction
    pulls: int
    gains: int
    """Finished paired gains."""
    mean: float | None
    """Mean gain over naive prompts, score units."""
    lo: float | None
    hi: float | None
    """95% interval of the mean, clustered by naive prompt."""
    parent: str | None
    born_round: int
    state: str
    author: str = ""
    """Whose gradient it came from; "" of a seed."""
    improvement: str = ""
    """What that gradient asked for."""


class PoolDelta(NamedTuple):
    """What a settled round changed."""

    admitted: tuple[str, ...]
    retired: tuple[tuple[str, str], ...]
    """(id, reason)."""
    waiting: int


@dataclass(init=False)
class Pool:
    """The instructions of a run. Every change comes through its methods, in round order.

    Its fields are its whole state, which a snapshot keeps.
    """

    _size: int
    _pool_growth_factor: float
    _paper: bool
    _records: dict[str, ArmRecord]
    _finished: int
    _blocked: int

    def __init__(
        self,
        seeds: Sequence[Instruction],
        *,
        size: int,
        pool_growth_factor: float = POOL_GROWTH_FACTOR,
        paper: bool = False,
    ) -> None:
        """`size`: instructions alive at a time, >= 2, but at first all seeds are alive.

        `growth`: > 0, how fast newcomers come. `paper`: every proposal enters at once.
        ValueError for no seeds or a pool too small to compare anything.
        """
        if not seeds or size < 2:
            raise ValueError(f"a pool of {len(seeds)} seeds and {size} places compares nothing")
        self._size = size
        self._pool_growth_factor = pool_growth_factor
        self._paper = paper
        self._records = {seed.id: ArmRecord(seed, "living") for seed in seeds}
        self._finished = 0
        self._blocked = 0

    # -- reading ------------------------------------------------------------------------------

    def instruction(self, id: str) -> Instruction:
        """The instruction of that id; KeyError when it was never here."""
        return self._records[id].instruction

    def living(self) -> list[Instruction]:
        """The instructions that may be pulled, oldest first."""
        return [record.instruction for record in self._in("living")]

    def arms(self) -> list[Arm]:
        """The living instructions' records, for a policy."""
        return [record.arm() for record in self._in("living")]

    def noise(self) -> SumOfSquares:
        """Of gains at a fixed instruction and naive prompt: what differs there is noise."""
        return summed(record.figures.within for record in self._records.values())

    def rows(self) -> list[PoolRow]:
        """Every instruction that was ever admitted, in the order of admission."""
        prior = self._pooled_variance()
        return [self._row(r, prior) for r in self._records.values() if r.state != "waiting"]

    def best(self) -> PoolRow:
        """The instruction, living or not, with the highest lower bound of those with two gains.

        Before there is one the highest mean, and before any result the first seed.
        """
        return _best(self.rows())[0]

    def best_basis(self) -> Basis:
        """By what `best` is the best."""
        return _best(self.rows())[1]

    def has_room(self, finished: int) -> bool:
        """Whether a newcomer may come in once `finished` pulls have ended."""
        ever = sum(record.state != "waiting" for record in self._records.values())
        return self._paper or ever < math.ceil(self._pool_growth_factor * math.sqrt(finished + 1))

    def memory(self) -> tuple[str, ...]:
        """What the latest improvements won, at most `REPORTED_IMPROVEMENTS`, newest last."""
        tried = [record for record in self._records.values() if record.improvement and record.count]
        return tuple(
            f"{record.improvement} (mean gain {record.figures.mean:+.4f}, n={record.count})"
            for record in tried[-REPORTED_IMPROVEMENTS:]
        )

    # -- changing -----------------------------------------------------------------------------

    def start_pull(self, id: str, index: int, expected_gains: int) -> None:
        """Pull `index` of this instruction is in flight. KeyError when it was never here."""
        self._records[id].pending[index] = expected_gains

    def finish_pull(self, id: str, index: int, gains: Sequence[tuple[str, float]]) -> None:
        """Pull `index` ended with these (naive prompt, gain); none means that all were lost.

        An arm that left meanwhile takes them too. KeyError when no such pull is in flight.
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
    ) -> bool:
        """Put a new instruction on the waiting list; False when it was here (by its id).

        `improvement`: what the gradient asked for, for the record.
        """
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
        )
        return True

    def settle(self, policy: Policy, scale: float) -> PoolDelta:
        """End a round: retire the hopeless, let newcomers in. `scale`: noise of one gain."""
        admitted: list[str] = []
        retired = self._retire_empty()
        if self._paper:
            self._settle_paper(policy, scale, admitted, retired)
        else:
            self._settle_one(policy, scale, admitted, retired)
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

    def _settle_paper(
        self, policy: Policy, scale: float, admitted: list[str], retired: list[tuple[str, str]]
    ) -> None:
        """Every proposal replaces its parent; the arms of the highest bounds stay."""
        for record in self._in("waiting"):
            admitted.append(self._admit(record))
            parent = self._records.get(record.parent or "")
            if parent is not None and parent.state == "living":
                retired.append(self._retire(parent, f"replaced by {record.instruction.id[:8]}"))
        while len(self._in("living")) > self._size:
            arms = self.arms()
            weakest = min(arms, key=lambda arm: (policy.upper_bound(arm, arms, scale), arm.id))
            reason = "lowest upper bound of the pool"
            retired.append(self._retire(self._records[weakest.id], reason))

    def _weakest(self, policy: Policy, scale: float) -> ArmRecord | None:
        """The living arm to give way: with a finished pull, not in flight, not the leader."""
        prior = self._pooled_variance()
        living = self._in("living")
        leader = _best([self._row(record, prior) for record in living])[0].instruction.id
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
        """The children of the best parents first; of equal ones, the youngest."""

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
        )


def _best(rows: Sequence[PoolRow]) -> tuple[PoolRow, Basis]:
    """Of equal ones the earliest. `rows` must not be empty."""
    bounded = [(row.lo, row) for row in rows if row.lo is not None and row.gains > 1]
    if bounded:
        return max(bounded, key=lambda pair: pair[0])[1], "lower bound"
    averaged = [(row.mean, row) for row in rows if row.mean is not None]
    if averaged:
        return max(averaged, key=lambda pair: pair[0])[1], "mean"
    return rows[0], "nothing"
