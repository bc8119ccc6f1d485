"""What a run got from its language model: counts over its settled rounds."""

from __future__ import annotations

from collections import Counter
from math import comb
from typing import Any

from pydantic import Field

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.services.core.values import Value

CHANCE = 0.05
"""Probability below which a difference of refusals is reported."""


class Refusals(Value):
    """How often a painter refuses the content of an instruction's rewrites, and of their naive
    prompts."""

    rewrites: int = 0
    """Rewrites that were to be painted."""
    refused: int = 0
    naive: int = 0
    """Naive prompts of the same rounds."""
    naive_refused: int = 0

    @property
    def any(self) -> bool:
        """Whether anything was refused."""
        return bool(self.refused or self.naive_refused)

    def and_round(self, other: Refusals) -> Refusals:
        """These with those of another round."""
        sums = {n: getattr(self, n) + getattr(other, n) for n in Refusals.model_fields}
        return Refusals(**sums)

    @property
    def probability(self) -> float:
        """Of at least as many refused rewrites, if rewrites and naive prompts were refused alike.

        Fisher's exact test, one-sided (Fisher 1935).
        """
        total, refused = self.rewrites + self.naive, self.refused + self.naive_refused
        most = min(refused, self.rewrites)
        ways = (
            comb(self.rewrites, k) * comb(self.naive, refused - k)
            for k in range(self.refused, most + 1)
        )
        return sum(ways) / comb(total, refused)


def _sum(mine: Any, other: Any) -> Any:
    """The sum of two numbers, or of two tables of numbers."""
    return dict(Counter(mine) + Counter(other)) if isinstance(other, dict) else mine + other


class AnswerCounts(Value):
    """Counts of rewrites, gradients and proposals."""

    rewrites: int = 0
    """Rewrites that were requested."""
    scored: int = 0
    """Of these, rewrites with a gain that are no fallbacks."""
    fallbacks: int = 0
    lost: int = 0
    """Of the rewrites, those that the language model failed to give."""
    gradients: int = 0
    composed_gradients: int = 0
    """Gradients that the language model did not word."""
    proposal_rounds: int = 0
    """Rounds that requested gradients and proposals."""
    proposals: int = 0
    composed_proposals: int = 0
    """Proposals that the language model did not word."""
    refused_proposals: dict[AnswerFault, int] = Field(default_factory=dict[AnswerFault, int])
    """Gradients that no valid instruction followed, by the class of the last reason."""
    unpainted: dict[str, int] = Field(default_factory=dict[str, int])
    """Rewrites that could not be rendered, by id of the instruction: blocked ones, for example."""

    refusals: dict[str, Refusals] = Field(default_factory=dict[str, Refusals])
    """Refusals of content by the painter, by id of the instruction; only where there are any. They
    are counts of the whole run, which `and_round` does not add."""

    def and_round(self, other: AnswerCounts) -> AnswerCounts:
        """These counts with those of another round."""
        sums = {
            name: _sum(getattr(self, name), getattr(other, name))
            for name in AnswerCounts.model_fields
            if name != "refusals"
        }
        return AnswerCounts(**sums)

    @property
    def lines(self) -> list[str]:
        """The shares as lines of text."""
        parts = (
            (self.fallbacks, self.rewrites, "rewrites fell back to the naive prompt"),
            (self.lost, self.rewrites, "rewrites failed"),
            (self.composed_gradients, self.gradients, "gradients were composed"),
            (self.composed_proposals, self.proposals, "proposals were composed"),
        )
        lines = [f"{count} of {total} {what}" for count, total, what in parts if total]
        if total := sum(self.refused_proposals.values()):
            by_class = (f"{fault} {n}" for fault, n in sorted(self.refused_proposals.items()))
            lines.append(f"{total} proposals were refused: {', '.join(by_class)}")
        for id, count in sorted(self.unpainted.items()):
            lines.append(f"{count} rewrites of instruction {id[:8]} could not be rendered")
        return [*lines, *self.refusal_lines]

    @property
    def refusal_lines(self) -> list[str]:
        """Refusals of content by instruction, with a warning where they bias its gains."""
        lines: list[str] = []
        for id, counts in sorted(self.refusals.items()):
            line = (
                f"the painter refused {counts.refused} of {counts.rewrites} rewrites of "
                f"instruction {id[:8]}, and {counts.naive_refused} of {counts.naive} naive prompts"
            )
            if counts.probability < CHANCE:
                line += "; WARNING: its gains hold only for what was painted (selection bias)"
            lines.append(line)
        return lines
