"""What stays of instructions that have left the pool: no more than a decision can read.

A run of t rounds retires some 5 sqrt(t) instructions, or one a round when it lets all of them in,
so keeping their records would make every round and every resume slower than the one before. Of
most only sums stay, added exactly, so that a pool which forgets decides as one that does not. Their
full records can be read from the transcript (runtime/records.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from bigpe.agents.arm_record import ArmRecord
from bigpe.agents.intervals import LEVEL, student_quantile
from bigpe.agents.message_base import Keys, key_of
from bigpe.agents.moments import Squares, exact_sum
from bigpe.agents.significance import TIE

REFUSED = 16_384
"""Forgotten instructions that are known by their ids, the newest: proposed again, they are refused.
One that comes again after so many others may compete anew."""


@dataclass
class SquaresSum:
    """Squares added up without rounding, so that no order and no grouping shows."""

    parts: tuple[float, ...] = ()
    df: int = 0

    def add(self, squares: Squares) -> None:
        """Take these in."""
        self.parts = exact_sum(self.parts, squares.total)
        self.df += squares.df

    def with_others(self, others: Iterable[Squares]) -> Squares:
        """The pooled squares of what was taken in and of `others`."""
        told = [*others]
        total = math.fsum([*self.parts, *(one.total for one in told)])
        return Squares(total, self.df + sum(one.df for one in told))


@dataclass
class Departed:
    """The sums and ids of the instructions that were forgotten."""

    count: int = 0
    within: SquaresSum = field(default_factory=SquaresSum)
    between: SquaresSum = field(default_factory=SquaresSum)
    """As in arm_record.Figures."""
    _ids: Keys = field(default_factory=dict[int, None])

    def __contains__(self, id: str) -> bool:
        """Whether it was among the newest `REFUSED` that were forgotten."""
        return key_of(id) in self._ids

    def add(self, record: ArmRecord) -> None:
        """Forget all of `record` but this."""
        self.count += 1
        self.within.add(record.figures.within)
        self.between.add(record.figures.between)
        self._ids[key_of(record.instruction.id)] = None
        for oldest in [*islice(self._ids, max(0, len(self._ids) - REFUSED))]:
            del self._ids[oldest]


def outdone(records: Sequence[ArmRecord], prior_df: float) -> list[ArmRecord]:
    """Those of `records` that can be the best no more, whatever is found out about others.

    `records`: retired, no pull in flight, in the order of admission, of a pool that ranks by lower
    bounds already; `prior_df`: see moderated_mean. Such a pool never calls one with less than two
    gains its best. A bound moves with the variance of all instructions: one of those that left is
    outdone when another's is the higher at every variance.
    """
    bounds = [_Bound.of(record, prior_df) for record in records if record.count > 1]
    lost = {
        one.id
        for at, one in enumerate(bounds)
        if any(
            other.above(one) or (index < at and other.no_less(one))
            for index, other in enumerate(bounds)
            if index != at
        )
    }
    return [record for record in records if record.count < 2 or record.instruction.id in lost]


class _Bound(NamedTuple):
    """An instruction's lower bound, a function of x = prior_df * variance >= 0."""

    id: str
    mean: float
    prompts: int
    width: float
    squares: float

    @staticmethod
    def of(record: ArmRecord, prior_df: float) -> _Bound:
        told = record.figures
        df = prior_df + told.between.df
        width = student_quantile(LEVEL, df) / math.sqrt(df * told.prompts)
        return _Bound(record.instruction.id, told.mean, told.prompts, width, told.between.total)

    def at(self, x: float) -> float:
        return self.mean - self.width * math.sqrt(x + self.squares)

    def above(self, other: _Bound) -> bool:
        """Whether this bound is the higher one at every x, by more than rounding."""
        if self.width > other.width:
            return False
        if self.width == other.width:  # the difference goes to that of the means
            gap = min(self.at(0.0) - other.at(0.0), self.mean - other.mean)
            return gap > TIE
        # The difference falls up to its only extreme, and rises from there on.
        own, others = self.width**2, other.width**2
        lowest = max(0.0, (own * other.squares - others * self.squares) / (others - own))
        return self.at(lowest) - other.at(lowest) > TIE

    def no_less(self, other: _Bound) -> bool:
        """Whether no rounding can make this bound the lower one; they may be equal."""
        same = self.prompts == other.prompts
        return same and self.mean >= other.mean and self.squares <= other.squares
