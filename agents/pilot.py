"""Before the first pull: a few naive prompts are painted twice, to learn how noisy a gain is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bigpe.agents.messages import ImageScored, RenderRequested
from bigpe.agents.moments import ScaleEstimate
from bigpe.agents.rounds import Picture, Pictures


@dataclass
class Pilot:
    """Pictures of round 0 and their scores."""

    pictures: Pictures = field(default_factory=Pictures)
    withheld: list[RenderRequested] = field(default_factory=list[RenderRequested])
    """What asks for the pictures, until the budget lets it begin."""
    _scores: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def over(self) -> bool:
        """Whether every picture is scored or lost."""
        return not self.pictures.awaited

    def take(self, message: ImageScored) -> None:
        """A picture is scored."""
        self.pictures.awaited.discard(picture_of(message))
        self._scores.setdefault(message.naive, []).append(message.score)

    def scale(self) -> ScaleEstimate | None:
        """The noise of a gain; None when no prompt was scored twice."""
        repeated = [scores for scores in self._scores.values() if len(scores) == 2]
        if not repeated:
            return None
        # A gain is a difference of two scores, so its variance is twice a score's.
        # Summed exactly: the order in which the scores came must not show.
        squares = math.fsum((a - b) ** 2 for a, b in repeated)
        sigma0 = max((squares / len(repeated)) ** 0.5, 1e-9)
        return ScaleEstimate(sigma0=sigma0, nu0=float(len(repeated)))


def picture_of(message: ImageScored) -> Picture:
    """Which picture of its round was scored."""
    return (message.purpose, message.naive, message.seed)
