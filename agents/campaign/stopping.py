"""The rule that stops a run without progress."""

from __future__ import annotations

from dataclasses import dataclass

EMPTY_ROUNDS = 3
"""Consecutive rounds without a result after which a run stops."""


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
