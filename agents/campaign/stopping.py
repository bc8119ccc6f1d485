"""The rules that stop a run without progress, or whose pictures do not depend on the prompt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bigpe.agents.messages.core import PairedGain

EMPTY_ROUNDS = 3
"""Consecutive rounds without a result after which a run stops."""
SAME_PICTURES = 4
"""Rewrites with the picture of their naive prompt, and none with another, that stop a run."""


@dataclass
class PromptEffect:
    """Whether a changed prompt changes the picture."""

    compared: int = 0
    differs: bool = False

    def add(self, gains: Iterable[PairedGain]) -> None:
        """Compare the pictures of rewrites with those of their naive prompts, at equal seeds."""
        for gain in gains:
            if not self.differs and gain.image and gain.rewrite != gain.naive:
                self.compared += 1
                self.differs = gain.image != gain.naive_image

    @property
    def fault(self) -> str | None:
        """Why the run cannot go on; None if it can."""
        if self.differs or self.compared < SAME_PICTURES:
            return None
        return same_picture(f"{self.compared} rewrites gave the pictures of their naive prompts")


def same_picture(finding: str) -> str:
    """The reason of a run's end whose renderer does not heed the prompt."""
    return (
        f"{finding}, so the prompt does not reach the renderer; check that its workflow or service "
        "takes the prompt, then start a run with another name"
    )


@dataclass
class StoppingRule:
    """Counts rounds without a result and rounds without a better best instruction."""

    last_failure: str = ""
    _empty_rounds: int = 0
    stale_rounds: int = 0
    """Rounds since the best lower bound rose."""
    _best_bound: float | None = None

    def settle(self, had_results: bool, bound: float | None) -> None:
        """Count a settled round. `bound`: the best instruction's lower bound."""
        self._empty_rounds = 0 if had_results else self._empty_rounds + 1
        if bound is not None and (self._best_bound is None or bound > self._best_bound):
            self._best_bound = bound
            self.stale_rounds = 0
        else:
            self.stale_rounds += 1

    def exhausted(self, patience: int) -> str | None:
        """Why no further round may be chosen; None if one may."""
        if self._empty_rounds >= EMPTY_ROUNDS:
            return (
                f"{self._empty_rounds} rounds in a row gave no result; the last cause: "
                f"{self.last_failure or 'unknown'}"
            )
        if patience and self.stale_rounds >= patience:
            return (
                f"the best instruction's lower bound has not risen for {self.stale_rounds} rounds"
            )
        return None
