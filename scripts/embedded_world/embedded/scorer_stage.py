"""The `scorer` stage: a CLIP-shaped preference model, fitted to noisy choices as HPS is.

Each step shows some naive prompts with several pictures each. Choices between all pairs are drawn
from a Bradley-Terry model of the world's utility, and the image-text similarity learns to predict
them. A third of the pictures come through the latents (see `views`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from embedded_world.embedded import world
from embedded_world.embedded.attributes import OUTPUTS, reading_loss, truths
from embedded_world.embedded.dataset import CONTEXT, Painted
from embedded_world.embedded.networks import (
    GUARD,
    SCORER,
    TEXT_LAYERS,
    Tower,
    build_scorer,
    millions,
)
from embedded_world.embedded.speed import fast
from embedded_world.embedded.text_stage import trained_text
from embedded_world.embedded.training import Loss, Schedule, load_trained, train
from embedded_world.embedded.views import Views

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
CHOICE_SHARPNESS = 1.5
"""Choices follow the sigmoid of this times the difference in utility."""
CHECK_PROMPTS = 40
CHECK_EVERY = 100


class Lineups:
    """Draws, for a naive prompt, scenes that fit it well, half and not at all."""

    def __init__(self, scenes: list[world.Scene], numbers: range) -> None:
        self._scenes, self._numbers = scenes, numbers
        self._by_subject: dict[str, list[int]] = defaultdict(list)
        self._by_both: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i in numbers:
            self._by_subject[scenes[i].subject].append(i)
            self._by_both[scenes[i].subject, scenes[i].place].append(i)

    def draw(self, rng: random.Random) -> tuple[str, list[int], list[float]]:
        """A prompt, eight scenes (the first five as it asks), their utilities."""
        first = rng.choice(self._numbers)
        scene = self._scenes[first]
        prompt = world.naive(scene, rng)
        same = self._by_both[scene.subject, scene.place]
        index = [first, *(rng.choice(same) for _ in range(4))]
        index += [rng.choice(self._by_subject[scene.subject]) for _ in range(2)]
        index.append(rng.choice(self._numbers))
        truths = [world.utility(self._scenes[i], scene.subject, prompt.place) for i in index]
        return prompt.text, index, truths


class Batch(NamedTuple):
    index: list[int]
    ids: Tensor
    utilities: Tensor
    """[prompts, pictures of a prompt]"""


def _batch(data: Painted, lineups: Lineups, rng: random.Random, prompts: int) -> Batch:
    drawn = [lineups.draw(rng) for _ in range(prompts)]
    encoded = data.tokenizer(
        [text for text, _, _ in drawn],
        padding="longest",
        truncation=True,
        max_length=CONTEXT,
        return_tensors="pt",
    )
    index = [i for _, own, _ in drawn for i in own]
    return Batch(index, encoded.input_ids, torch.tensor([us for _, _, us in drawn]))


def normalised(images: Tensor) -> Tensor:
    """Images in -1..1 as the scorer's image processor would give them."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return ((images.clamp(-1, 1) + 1) / 2 - mean) / std


class Judge(nn.Module):
    """A scorer while it learns. What its vision tower sees is also asked for directly: choices
    alone say too little about a picture to teach a transformer to see. The head is not exported."""

    def __init__(self, scorer: CLIPModel) -> None:
        super().__init__()
        self.scorer = scorer
        self.head = nn.Linear(scorer.config.vision_config.hidden_size, OUTPUTS)

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [prompts, pictures of a prompt], and what each picture seems to show."""
        seen = self.scorer.vision_model(pixel_values=pixels).pooler_output
        image = F.normalize(self.scorer.visual_projection(seen).float(), dim=-1)
        words = self.scorer.text_model(input_ids=ids).pooler_output
        text = F.normalize(self.scorer.text_projection(words).float(), dim=-1)
        grouped = image.view(len(text), -1, image.shape[-1])
        judged = (grouped * text[:, None]).sum(-1) * self.scorer.logit_scale.exp()
        return judged, self.head(seen)


class Kind(NamedTuple):
    """One of the two preference models, and the share of the training scenes that it sees."""

    name: str
    tower: Tower
    scenes: tuple[float, float]
    reading: float
    """The weight of the reading loss."""
    seed: int


SCORER_KIND = Kind("scorer", SCORER, (0.0, 0.7), 0.3, 0)
GUARD_KIND = Kind("guard", GUARD, (0.7, 1.0), 0.3, 1)


def pair_accuracy(scored: Tensor, utilities: Tensor, apart: float = 1.0) -> float:
    """The share of pairs in the right order, of those whose utility differs by `apart`."""
    wide = utilities[:, :, None] - utilities[:, None, :] > apart
    return float(((scored[:, :, None] - scored[:, None, :]) > 0)[wide].float().mean())


def train_scorer(work: Path, schedule: Schedule, kind: Kind = SCORER_KIND) -> None:
    data = Painted(work)
    existing = truths(data.scenes)
    views = Views(work, data)
    count = len(data.scenes) - data.held_out
    first, last = (data.held_out + round(count * share) for share in kind.scenes)
    lineups = Lineups(data.scenes, range(first, last))
    unseen = Lineups(data.scenes, range(data.held_out))
    schedule = replace(schedule, seed=schedule.seed * 2 + kind.seed)
    torch.manual_seed(schedule.seed)
    judge = _fresh_judge(work, data, kind)
    print(f"{kind.name}: {millions(judge.scorer):.1f} M parameters", flush=True)
    figures: dict[str, float] = {}

    def loss_of(step: int, rng: random.Random) -> Loss:
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            check = _batch(data, unseen, rng, CHECK_PROMPTS)
            with torch.no_grad(), fast():
                judged = judge(normalised(data.images(check.index)), check.ids)[0]
            figures["pairs"] = pair_accuracy(judged, check.utilities)
            figures["same_scene"] = pair_accuracy(judged[:, :5], check.utilities[:, :5])
        batch = _batch(data, lineups, rng, schedule.batch)
        with fast():
            judged, displayed = judge(normalised(views(batch.index, rng)), batch.ids)
        a, b = torch.triu_indices(judged.shape[1], judged.shape[1], 1)
        likely = torch.sigmoid(CHOICE_SHARPNESS * (batch.utilities[:, a] - batch.utilities[:, b]))
        chosen = torch.bernoulli(likely)
        loss = F.binary_cross_entropy_with_logits(judged[:, a] - judged[:, b], chosen)
        read = reading_loss(displayed, existing.classes[batch.index], existing.scalars[batch.index])
        return loss + kind.reading * read, {"choices": loss.item(), **figures}

    train(kind.name, work / f"{kind.name}.pt", judge, schedule, loss_of, average=True)


def _fresh_judge(work: Path, data: Painted, kind: Kind) -> Judge:
    """Where the text towers have one shape, the taught text encoder is where the scorer starts."""
    scorer = build_scorer(data.tokenizer, kind.tower)
    scorer.set_attn_implementation("eager")
    if kind.tower.text_layers == TEXT_LAYERS:
        scorer.text_model.load_state_dict(trained_text(work, data).state_dict(), strict=False)
    return Judge(scorer)


def train_guard(work: Path, schedule: Schedule) -> None:
    """A second opinion: another tower, other scenes, another seed."""
    train_scorer(work, schedule, GUARD_KIND)


def trained_scorer(work: Path, data: Painted, kind: Kind = SCORER_KIND) -> tuple[CLIPModel, int]:
    """The averaged scorer and its step."""
    judge = Judge(build_scorer(data.tokenizer, kind.tower))
    step = load_trained(work / f"{kind.name}.pt", judge, average=True)
    return judge.scorer.requires_grad_(False), step
