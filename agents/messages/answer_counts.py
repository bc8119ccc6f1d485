"""What a run got from its language model: counts over its settled rounds."""

from __future__ import annotations

from pydantic import Field

from bigpe.services.core.values import Value


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
    unpainted: dict[str, int] = Field(default_factory=dict[str, int])
    """Rewrites that could not be rendered, by id of the instruction: blocked ones, for example."""

    def and_round(self, other: AnswerCounts) -> AnswerCounts:
        """These counts with those of another round."""
        unpainted = dict(self.unpainted)
        for id, count in other.unpainted.items():
            unpainted[id] = unpainted.get(id, 0) + count
        numbers = {
            name: getattr(self, name) + getattr(other, name)
            for name in AnswerCounts.model_fields
            if name != "unpainted"
        }
        return AnswerCounts(**numbers, unpainted=unpainted)

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
        for id, count in sorted(self.unpainted.items()):
            lines.append(f"{count} rewrites of instruction {id[:8]} could not be rendered")
        return lines
