"""What a race counts: different pictures, as if nothing had been painted before."""

from __future__ import annotations


class Spent(Exception):
    """The budget has no room for the pictures that were asked for."""


class RenderLedger:
    """Counts the different (prompt, seed) pictures that one run of one method asks for.

    The memo below may know a picture from another run; it is counted nevertheless, so that every
    method pays for its own naive, professional and validation pictures.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._seen: set[tuple[str, int]] = set()

    @property
    def spent(self) -> int:
        """Pictures counted so far."""
        return len(self._seen)

    def new(self, *pictures: tuple[str, int]) -> int:
        """How many of these would be counted."""
        return len(set(pictures) - self._seen)

    def take(self, *pictures: tuple[str, int]) -> None:
        """Count them all, or none: Spent when they do not fit."""
        if self.spent + self.new(*pictures) > self.budget:
            raise Spent(f"{self.spent} of {self.budget} renders are used")
        self._seen.update(pictures)
