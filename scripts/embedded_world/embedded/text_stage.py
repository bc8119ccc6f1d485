"""The `text` stage: teach the text encoder what captions say, before the denoiser sees it.

The encoder predicts a scene's attributes from its caption (heads are thrown away afterwards) and
is then frozen: conditioning works from the denoiser's first step.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel

from embedded_world.embedded import world
from embedded_world.embedded.dataset import Painted
from embedded_world.embedded.networks import TEXT_WIDTH, build_text
from embedded_world.embedded.training import Loss, Schedule, load_trained, train

_GROUPS = (world.SUBJECTS, world.PLACES, world.LIGHTS, world.STYLES, world.FRAMINGS)
_SIZES = [len(group) for group in _GROUPS] + [len(world.BANDS)] * len(world.SCALAR_TASTE)


def attribute_labels(scene: world.Scene) -> list[int]:
    """Class numbers of every attribute; scalars by band."""
    values = (scene.subject, scene.place, scene.light, scene.style, scene.framing)
    labels = [list(g).index(v) for g, v in zip(_GROUPS, values, strict=True)]
    for name in world.SCALAR_TASTE:
        value = getattr(scene, name)
        labels.append(sum(value > top for _, top in world.BANDS[:-1]))
    return labels


class _Reader(nn.Module):
    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.Linear(TEXT_WIDTH, sum(_SIZES))

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        return self.heads(self.encoder(ids).pooler_output).split(_SIZES, 1)


def train_text(work: Path, schedule: Schedule) -> None:
    data = Painted(work)
    labels = torch.tensor([attribute_labels(s) for s in data.scenes])
    torch.manual_seed(schedule.seed)
    reader = _Reader(build_text(data.tokenizer))
    end = data.tokenizer.eos_token_id

    def loss_of(step: int, rng: random.Random) -> Loss:
        index = data.training_indices(rng, schedule.batch)
        ids = data.caption_ids(index, rng)
        longest = int((ids != end).sum(1).max()) + 1
        outputs = reader(ids[:, :longest])
        losses = [F.cross_entropy(o, labels[index, k]) for k, o in enumerate(outputs)]
        right = [float((outputs[k].argmax(1) == labels[index, k]).float().mean()) for k in range(2)]
        return sum(losses[1:], losses[0]), {"subject": right[0], "place": right[1]}

    train("text", work / "text.pt", reader, schedule, loss_of)


def trained_text(work: Path, data: Painted) -> CLIPTextModel:
    reader = _Reader(build_text(data.tokenizer))
    load_trained(work / "text.pt", reader)
    return reader.encoder.requires_grad_(False)
