"""What can be read off a picture: classes, five scalars, and the utility that follows from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from embedded_world.embedded import world

GROUPS = {
    "subject": tuple(world.SUBJECTS),
    "place": tuple(world.PLACES),
    "light": tuple(world.LIGHTS),
    "style": tuple(world.STYLES),
    "framing": tuple(world.FRAMINGS),
}
SCALARS = tuple(world.SCALAR_TASTE)
SIZES = (*(len(values) for values in GROUPS.values()), len(SCALARS))
OUTPUTS = sum(SIZES)
_TASTES = {
    "light": world.LIGHT_TASTE,
    "style": world.STYLE_TASTE,
    "framing": world.FRAMING_TASTE,
}
SCALAR_WEIGHT = 8.0
"""What a squared error of 1 in a scalar costs beside a nat of a class: about as much as chance."""


class Truths(NamedTuple):
    classes: Tensor
    """[pictures, groups]"""
    scalars: Tensor
    """[pictures, scalars], in 0..1"""


def truths(scenes: list[world.Scene]) -> Truths:
    classes = [[v.index(getattr(s, name)) for name, v in GROUPS.items()] for s in scenes]
    return Truths(
        torch.tensor(classes), torch.tensor([[getattr(s, n) for n in SCALARS] for s in scenes])
    )


def reading_loss(outputs: Tensor, classes: Tensor, scalars: Tensor) -> Tensor:
    """Cross entropy of every class and squared error of every scalar, summed."""
    *logits, guessed = outputs.float().split(SIZES, 1)
    lost = [F.cross_entropy(o, classes[:, k]) for k, o in enumerate(logits)]
    squared = F.mse_loss(guessed, scalars, reduction="none").mean(0).sum()
    return sum(lost, SCALAR_WEIGHT * squared)


class Reading(NamedTuple):
    """What a reader sees in some pictures."""

    shares: dict[str, Tensor]
    """For each group the probability of each value, [pictures, values]."""
    scalars: Tensor

    def values(self, group: str) -> list[str]:
        """The likeliest value in each picture."""
        return [GROUPS[group][i] for i in self.shares[group].argmax(1).tolist()]

    def scalar(self, name: str) -> Tensor:
        return self.scalars[:, SCALARS.index(name)]

    def utility(self, subject: str, place: str | None) -> Tensor:
        """The utility expected of each picture for a prompt that names `subject` and `place`."""
        total = (self.scalars - 0.5) @ torch.tensor(list(world.SCALAR_TASTE.values())) * 2
        for group, taste in _TASTES.items():
            total = total + self.shares[group] @ torch.tensor([taste[v] for v in GROUPS[group]])
        total = total + self._named("subject", subject, world.SUBJECT_TASTE)
        return total if place is None else total + self._named("place", place, world.PLACE_TASTE)

    def _named(self, group: str, value: str, taste: tuple[float, float]) -> Tensor:
        displayed = self.shares[group][:, GROUPS[group].index(value)]
        return displayed * taste[0] + (1 - displayed) * taste[1]


def reading(outputs: Tensor) -> Reading:
    *logits, scalars = outputs.float().split(SIZES, 1)
    shares = {name: o.softmax(1) for name, o in zip(GROUPS, logits, strict=True)}
    return Reading(shares, scalars.clamp(0, 1))
