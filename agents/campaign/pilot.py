"""The pilot: some naive prompts are rendered twice, to estimate the noise of a gain."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bigpe.agents.campaign.round import PendingImages, Picture
from bigpe.agents.messages.core import ImageScored, RenderRequested
from bigpe.agents.statistics.moments import ScaleEstimate


@dataclass
class Pilot:
    """The images of round 0 and their scores."""

    pictures: PendingImages = field(default_factory=PendingImages)
    blocked_by_budget: list[RenderRequested] = field(default_factory=list[RenderRequested])
    """The requests for the images, until the budget lets the pilot begin."""
    _scores: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    _image: str = ""
    """The first image."""
    _differs: bool = False
    """Whether an image differs from the first one."""

    @property
    def over(self) -> bool:
        """Whether every image is scored or lost."""
        return not self.pictures.awaited

    def take(self, message: ImageScored) -> None:
        """Add the score of an image."""
        self.pictures.awaited.discard(picture_of(message))
        self._scores.setdefault(message.naive, []).append(message.score)
        self._image = self._image or message.image
        self._differs = self._differs or message.image != self._image

    @property
    def has_one_picture(self) -> bool:
        """Whether all prompts, at all seeds, gave one and the same image."""
        return len(self._scores) > 1 and bool(self._image) and not self._differs

    def scale(self) -> ScaleEstimate | None:
        """The noise of a gain; None if no prompt was scored twice."""
        repeated = [scores for scores in self._scores.values() if len(scores) == 2]
        if not repeated:
            return None
        # A gain is a difference of two scores, so its variance is twice a score's.
        # fsum is exact, so the order of the scores has no influence.
        squares = math.fsum((a - b) ** 2 for a, b in repeated)
        sigma0 = max((squares / len(repeated)) ** 0.5, 1e-9)
        return ScaleEstimate(sigma0=sigma0, nu0=float(len(repeated)))


def picture_of(message: ImageScored) -> Picture:
    """The key of the scored image in its round."""
    return (message.purpose, message.naive, message.seed)
