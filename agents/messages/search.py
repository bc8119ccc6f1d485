"""What a search has found out so far, for agents that can reason about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from bigpe.agents.evidence.contrasts import Contrast, TermTally
from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.messages.parts import PairedGain
from bigpe.services.core.values import Instruction, Value

Operator = Literal["revise", "explore", "merge", "condense"]
"""A way to make an instruction of others: follow the gradient, take another approach, unite two, or
shorten."""


class OperatorTally(NamedTuple):
    """The trials of one operator."""

    chosen: int = 0
    """Number of requests for a proposal."""
    won: int = 0
    """Number of children that gained more than their parent."""
    lost: int = 0
    """Number of children that did not, and of requests without an admissible proposal."""

    @property
    def text(self) -> str:
        """The outcome for people."""
        settled = self.won + self.lost
        return f"{self.won} of {settled} won" if settled else f"{self.chosen} tried"


def operators_text(tallies: Mapping[Operator, OperatorTally]) -> str:
    """The trials of each operator in one line; empty without any."""
    trials = ", ".join(f"{name} {tally.text}" for name, tally in tallies.items())
    return f"operators: {trials}" if trials else ""


class InstructionRecord(Value):
    """An instruction with its results."""

    instruction: Instruction
    gains: int
    """Number of paired comparisons; 0: not tried yet, and the next fields are None."""
    mean: float | None
    """Mean gain, score units."""
    lo: float | None
    hi: float | None
    """95% interval of the mean."""
    won: tuple[str, ...] = ()
    """Naive prompts on which it gained more than every other instruction."""


class TriedChange(Value):
    """A change of an instruction, and what it gained."""

    round: int
    """The round that proposed it."""
    operator: Operator
    change: str
    """The change in one line, in the words of the modifier."""
    parent: str
    child: str
    """Ids of the two instructions."""
    prompts: int = 0
    """Number of naive prompts that both had; 0: not comparable yet."""
    mean: float | None = None
    """Mean gain of the child less that of the parent, score units."""
    lo: float | None = None
    hi: float | None = None


class SearchState(Value):
    """The search when a round was chosen. Later results do not change it."""

    own: InstructionRecord
    """The instruction of the round."""
    records: tuple[InstructionRecord, ...]
    """The best four and the worst two instructions with results, best first."""
    tried: tuple[TriedChange, ...]
    """The newest changes, newest last."""
    operators: tuple[Operator, ...]
    """How to make the instructions of the round, one for each proposal, gradient by gradient."""
    proposals: int = 1
    """Proposals for each gradient of the gradient calculator."""
    stale: int
    """Rounds since the best lower bound rose."""
    sigma: float
    """Noise of one gain (standard deviation), score units."""


class BatchStudy(Value):
    """A batch as the gradient calculator sees it."""

    batch: tuple[PairedGain, ...]
    contrasts: tuple[Contrast, ...]
    """Within one naive prompt and seed: the best and the worst rewrite of any instruction."""
    professionals: tuple[PairedComparison, ...]
    """Professional prompts of the same subjects, scored like rewrites."""
    tallies: tuple[TermTally, ...] = ()
    """Of the terms of the evidence table, over all naive prompts of the run."""
    search: SearchState
