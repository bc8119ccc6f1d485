"""The pool of instructions: who lives, who waits, who left and why. A fold, without a clock.

A new instruction costs pulls before anything is known of it, so newcomers are let in only while
arms ever admitted < ceil(growth sqrt(finished pulls + 1)): the rule for infinitely many arms
(Wang, Audibert & Munos 2008, with beta = 1). The others wait.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from scipy.stats import t as student

from bigpe.agents.policies import Arm, Policy
from bigpe.services.values import Instruction

State = Literal["living", "waiting", "retired"]

GROWTH = 2.0
EMPTY_PULLS = 2
"""Pulls without any result after which an arm is retired."""
PRIOR_DF = 4.0
"""Degrees of freedom by which an arm's variance is shrunk to that of all arms."""


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


class PoolDelta(NamedTuple):
    """What a settled round changed."""

    admitted: tuple[str, ...]
    retired: tuple[tuple[str, str], ...]
    """(id, reason)."""
    waiting: int


@dataclass
class _Record:
    instruction: Instruction
    state: State
    parent: str | None = None
    born_round: int = 0
    gradient_mid: str = ""
    reason: str = ""
    gains: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    finished_pulls: int = 0
    empty_pulls: int = 0
    pending: dict[int, int] = field(default_factory=dict[int, int])

    def arm(self) -> Arm:
        return Arm(
            id=self.instruction.id,
            gains=tuple(gain for _, gain in self.gains),
            finished_pulls=self.finished_pulls,
            pending_pulls=len(self.pending),
            pending_gains=sum(self.pending.values()),
        )

    def by_prompt(self) -> dict[str, list[float]]:
        groups: dict[str, list[float]] = defaultdict(list)
        for naive, gain in self.gains:
            groups[naive].append(gain)
        return groups

    def prompt_means(self) -> list[float]:
        return [math.fsum(gains) / len(gains) for gains in self.by_prompt().values()]


class Pool:
    """The instructions of a run. Every change comes through its methods, in round order."""

    def __init__(
        self,
        seeds: Sequence[Instruction],
        *,
        size: int,
        growth: float = GROWTH,
        paper: bool = False,
    ) -> None:
        """`size`: instructions alive at a time, >= 2. `paper`: every proposal enters at once."""
        self._size = size
        self._growth = growth
        self._paper = paper
        self._records: dict[str, _Record] = {}
        self._finished = 0
        for seed in seeds:
            self._records[seed.id] = _Record(seed, "living")

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

    def replicates(self) -> list[list[float]]:
        """Gains at a fixed instruction and naive prompt: what differs within a list is noise."""
        return [
            gains
            for record in self._records.values()
            for gains in record.by_prompt().values()
            if len(gains) > 1
        ]

    def rows(self) -> list[PoolRow]:
        """Every instruction ever admitted, in the order of admission."""
        prior = self._pooled_variance()
        return [self._row(r, prior) for r in self._records.values() if r.state != "waiting"]

    def best(self) -> PoolRow:
        """The instruction with the highest lower bound; before any result, the first seed."""
        rows = self.rows()
        bounded = [row for row in rows if row.lo is not None]
        if bounded:
            return max(bounded, key=lambda row: row.lo or -math.inf)
        known = [row for row in rows if row.mean is not None]
        return max(known, key=lambda row: row.mean or -math.inf) if known else rows[0]

    # -- changing -----------------------------------------------------------------------------

    def start_pull(self, id: str, index: int, expected_gains: int) -> None:
        """Pull `index` of this instruction is in flight."""
        self._records[id].pending[index] = expected_gains

    def finish_pull(self, id: str, index: int, gains: Sequence[tuple[str, float]]) -> None:
        """Pull `index` ended with these (naive prompt, gain); none means that all were lost."""
        record = self._records[id]
        del record.pending[index]
        record.finished_pulls += 1
        record.empty_pulls += not gains
        record.gains += gains
        self._finished += 1

    def propose(
        self, instruction: Instruction, *, parent: str, round: int, gradient_mid: str
    ) -> bool:
        """Put a new instruction on the waiting list; False when it was here before."""
        if instruction.id in self._records:
            return False
        self._records[instruction.id] = _Record(
            instruction, "waiting", parent=parent, born_round=round, gradient_mid=gradient_mid
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
        waiting = self._in("waiting")
        for record in self._ranked(waiting)[4 * self._size :]:
            del self._records[record.instruction.id]
        return PoolDelta(tuple(admitted), tuple(retired), len(self._in("waiting")))

    # -- rules --------------------------------------------------------------------------------

    def _retire_empty(self) -> list[tuple[str, str]]:
        retired: list[tuple[str, str]] = []
        for record in self._in("living"):
            hopeless = record.empty_pulls >= EMPTY_PULLS and not record.gains
            if hopeless and not record.pending and len(self._in("living")) > 1:
                reason = f"{record.empty_pulls} pulls gave no result"
                retired.append(self._retire(record, reason))
        return retired

    def _settle_one(
        self, policy: Policy, scale: float, admitted: list[str], retired: list[tuple[str, str]]
    ) -> None:
        ever = sum(record.state != "waiting" for record in self._records.values())
        waiting = self._ranked(self._in("waiting"))
        if not waiting or ever >= math.ceil(self._growth * math.sqrt(self._finished + 1)):
            return
        if len(self._in("living")) >= self._size:
            weakest = self._weakest(policy, scale)
            if weakest is None:
                return
            reason = (
                f"lowest upper bound of the pool; makes room for {waiting[0].instruction.id[:8]}"
            )
            retired.append(self._retire(weakest, reason))
        admitted.append(self._admit(waiting[0]))

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

    def _weakest(self, policy: Policy, scale: float) -> _Record | None:
        """The living arm to give way: known well enough, not in flight, not the leader."""
        arms = self.arms()
        known = [record for record in self._in("living") if record.gains]
        if not known:
            return None
        prior = self._pooled_variance()
        leader = max(known, key=lambda record: self._row(record, prior).lo or -math.inf).arm()
        # An arm whose upper bound lies below the leader's mean will not be pulled for long; waiting
        # for its second pull would shut the door to newcomers.
        free = [
            arm
            for arm in arms
            if not arm.pending_pulls
            and arm.id != leader.id
            and (
                arm.finished_pulls >= 2
                or (arm.gains and policy.upper_bound(arm, arms, scale) < leader.mean / scale)
            )
        ]
        if not free:
            return None
        worst = min(free, key=lambda arm: (policy.upper_bound(arm, arms, scale), arm.id))
        return self._records[worst.id]

    def _ranked(self, waiting: Sequence[_Record]) -> list[_Record]:
        """The children of the best parents first; of equal ones, the youngest."""

        def promise(record: _Record) -> tuple[float, int]:
            parent = self._records.get(record.parent or "")
            means = parent.prompt_means() if parent else []
            mean = math.fsum(means) / len(means) if means else 0.0
            return (-mean, -record.born_round)

        return sorted(waiting, key=promise)

    def _admit(self, record: _Record) -> str:
        record.state = "living"
        # Admission order is the order of the table and of first pulls.
        self._records[record.instruction.id] = self._records.pop(record.instruction.id)
        return record.instruction.id

    def _retire(self, record: _Record, reason: str) -> tuple[str, str]:
        record.state = "retired"
        record.reason = reason
        return (record.instruction.id, reason)

    def _in(self, state: State) -> list[_Record]:
        return [record for record in self._records.values() if record.state == state]

    # -- figures ------------------------------------------------------------------------------

    def _pooled_variance(self) -> float | None:
        """Variance between naive prompts within an arm, pooled over all arms."""
        squares, df = 0.0, 0
        for record in self._records.values():
            means = record.prompt_means()
            if len(means) > 1:
                centre = math.fsum(means) / len(means)
                squares += math.fsum((mean - centre) ** 2 for mean in means)
                df += len(means) - 1
        return squares / df if df else None

    def _row(self, record: _Record, prior: float | None) -> PoolRow:
        mean, lo, hi = _moderated_interval(record.prompt_means(), prior)
        state = f"retired: {record.reason}" if record.state == "retired" else record.state
        return PoolRow(
            record.instruction,
            record.finished_pulls,
            len(record.gains),
            mean,
            lo,
            hi,
            record.parent,
            record.born_round,
            state,
        )


def _moderated_interval(
    means: Sequence[float], prior: float | None
) -> tuple[float | None, float | None, float | None]:
    """Mean and 95% interval with a variance shrunk to the pooled one (Smyth 2004, moderated t).

    The unit is the naive prompt. Few prompts make a plain variance unreliable, and the arm whose
    prompts happened to agree would win by luck.
    """
    if not means:
        return None, None, None
    n = len(means)
    mean = math.fsum(means) / n
    if prior is None:
        return mean, None, None
    squares = math.fsum((value - mean) ** 2 for value in means)
    df = PRIOR_DF + n - 1
    variance = (PRIOR_DF * prior + squares) / df
    half = float(student.ppf(0.975, df)) * math.sqrt(variance / n)
    return mean, mean - half, mean + half
