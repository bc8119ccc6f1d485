"""Which operator makes the next instruction: Thompson sampling on whether children beat parents.

An operator is a way to change an instruction. Each child is a trial of its operator: it wins if it
gains more than its parent on the prompts that both had.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field

from bigpe.agents.messages.search import Operator, OperatorTally

OPERATORS: tuple[Operator, ...] = ("revise", "explore", "merge", "condense")
"""In the order of their first trials."""
FORCED_TRIALS = 2
"""Number of trials of each possible operator before sampling begins."""
BROAD: tuple[Operator, ...] = ("explore", "merge")
"""The operators that leave the neighbourhood of one instruction; favoured in a stagnation."""


@dataclass
class OperatorChoice:
    """The tallies of a run, and the choice that follows from them."""

    tallies: dict[Operator, OperatorTally] = field(default_factory=dict[Operator, OperatorTally])

    def tally(self, operator: Operator) -> OperatorTally:
        """The trials of an operator."""
        return self.tallies.get(operator, OperatorTally())

    def choose(
        self, possible: Collection[Operator], rng: random.Random, *, stagnant: bool = False
    ) -> Operator:
        """Choose one of the `possible` operators, and count it as chosen.

        First each gets FORCED_TRIALS. Then each draws from its Beta(1 + won, 1 + lost), and the
        highest draw wins (Thompson 1933). In a stagnation the broad operators draw twice, and the
        better draw counts.

        Raises:
            ValueError: `possible` is empty.
        """
        candidates: list[Operator] = [operator for operator in OPERATORS if operator in possible]
        if not candidates:
            raise ValueError("no operator is possible")
        untried: list[Operator] = [o for o in candidates if self.tally(o).chosen < FORCED_TRIALS]
        if untried:
            chosen = min(untried, key=lambda o: (self.tally(o).chosen, OPERATORS.index(o)))
        else:
            draws = {o: self._draw(o, rng, 2 if stagnant and o in BROAD else 1) for o in candidates}
            chosen = max(candidates, key=lambda o: draws[o])
        before = self.tally(chosen)
        self.tallies[chosen] = before._replace(chosen=before.chosen + 1)
        return chosen

    def settle(self, operator: Operator, *, won: bool) -> None:
        """Record the outcome of one trial."""
        before = self.tally(operator)
        self.tallies[operator] = (
            before._replace(won=before.won + 1) if won else before._replace(lost=before.lost + 1)
        )

    def _draw(self, operator: Operator, rng: random.Random, times: int) -> float:
        tally = self.tally(operator)
        return max(rng.betavariate(1 + tally.won, 1 + tally.lost) for _ in range(times))
