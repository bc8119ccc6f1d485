"""The newest paired comparisons of a run, the input of the evidence table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bigpe.agents.evidence.mixed_model import PairedComparison

WINDOW = 4000
"""Number of newest comparisons that a round uses: 800 rounds of five. More would hardly narrow an
interval, and the time of a run would grow with the square of its length."""


@dataclass
class ComparisonWindow:
    """The comparisons that rounds in flight and later rounds may use, newest last."""

    pairs: list[PairedComparison] = field(default_factory=list[PairedComparison])
    forgotten: int = 0
    """Number of dropped older comparisons."""

    @property
    def total(self) -> int:
        """Number of comparisons ever added."""
        return self.forgotten + len(self.pairs)

    def first(self, upto: int) -> Sequence[PairedComparison]:
        """The newest WINDOW of the first `upto` comparisons."""
        end = upto - self.forgotten
        return self.pairs[max(0, end - WINDOW) : end]

    def add(self, pairs: Sequence[PairedComparison], oldest: int | None) -> None:
        """Add the pairs of a round. `oldest`: the smallest `upto` that is still needed."""
        self.pairs += pairs
        least = self.total if oldest is None else oldest
        old = max(0, least - WINDOW - self.forgotten)
        del self.pairs[:old]
        self.forgotten += old
