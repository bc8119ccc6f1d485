"""The run's paired comparisons, newest last: what evidence is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bigpe.agents.evidence.mixed_model import PairedComparison

WINDOW = 4000
"""Comparisons that a round looks back on, the newest: 800 rounds of five. More would hardly narrow
an interval, and a run's time and memory would grow with the square of its length."""


@dataclass
class ComparisonWindow:
    """Those that a round in flight, or a later one, may look back on."""

    pairs: list[PairedComparison] = field(default_factory=list[PairedComparison])
    forgotten: int = 0
    """How many older ones there were."""

    @property
    def total(self) -> int:
        """How many there ever were."""
        return self.forgotten + len(self.pairs)

    def first(self, upto: int) -> Sequence[PairedComparison]:
        """The newest ones of the first `upto`."""
        end = upto - self.forgotten
        return self.pairs[max(0, end - WINDOW) : end]

    def add(self, pairs: Sequence[PairedComparison], oldest: int | None) -> None:
        """Take in a round's pairs; `oldest`: the smallest `upto` that is still asked for."""
        self.pairs += pairs
        least = self.total if oldest is None else oldest
        old = max(0, least - WINDOW - self.forgotten)
        del self.pairs[:old]
        self.forgotten += old
