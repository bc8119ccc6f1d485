"""A number of calls in flight that adapts to what a service takes.

Additive increase and multiplicative decrease lead several users of a service to equal shares
(Chiu and Jain, "Analysis of the increase and decrease algorithms", 1989).
"""

from __future__ import annotations


class AdaptiveLimit:
    """Calls in flight, between 1 and a ceiling."""

    def __init__(self, ceiling: int) -> None:
        """`ceiling`: the largest limit, and the first."""
        self._ceiling = ceiling
        self._value = float(ceiling)
        self.generation = 0
        """Number of decreases. Calls that begin between two decreases belong together."""

    @property
    def places(self) -> int:
        """The present limit."""
        return int(self._value)

    def increase(self) -> None:
        """Note an answered call; a limit's worth of them raises the limit by about 1."""
        self._value = min(float(self._ceiling), self._value + 1.0 / self._value)

    def decrease(self, generation: int) -> None:
        """Halve the limit, once for all refused calls that began in `generation`."""
        if generation == self.generation:
            self._value = max(1.0, self._value / 2.0)
            self.generation += 1
