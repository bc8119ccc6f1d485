"""The `scorer` stage: a CLIP-shaped preference model, fitted to noisy choices as HPS is.

Each step shows some naive prompts with several pictures each. Choices between all pairs are drawn
from a Bradley-Terry model of the world's utility, and the image-text similarity learns to predict
them. Half of the pictures come through the latents, so that what a generator does to a picture is
no news to the scorer.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from embedded import world
from embedded.dataset import CONTEXT, Painted
from embedded.networks import build_scorer, embeddings, millions
from embedded.training import Loss, Schedule, load_trained, train
from embedded.vae_stage import decoder

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
CHOICE_SHARPNESS = 1.5
"""Choices follow the sigmoid of this times the difference in utility."""
LATENT_NOISE = (0.0, 0.25)
"""How far decoded pictures are disturbed, as a range of standard deviations."""
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


def scores(scorer: CLIPModel, images: Tensor, ids: Tensor) -> Tensor:
    """Similarities times the logit scale, [prompts, pictures of a prompt]."""
    image, text = embeddings(scorer, normalised(images), ids)
    grouped = image.view(len(text), -1, image.shape[-1])
    return scorer.logit_scale.exp() * (grouped @ text[:, :, None])[..., 0]


def pair_accuracy(scored: Tensor, utilities: Tensor, apart: float = 1.0) -> float:
    """The share of pairs in the right order, of those whose utility differs by `apart`."""
    wide = utilities[:, :, None] - utilities[:, None, :] > apart
    return float(((scored[:, :, None] - scored[:, None, :]) > 0)[wide].float().mean())


def train_scorer(work: Path, schedule: Schedule) -> None:
    data = Painted(work)
    decode = decoder(work, data)
    lineups = Lineups(data.scenes, range(data.held_out, len(data.scenes)))
    unseen = Lineups(data.scenes, range(data.held_out))
    torch.manual_seed(schedule.seed)
    scorer = build_scorer(data.tokenizer)
    print(f"scorer: {millions(scorer):.1f} M parameters", flush=True)
    figures: dict[str, float] = {}

    def seen(batch: Batch, rng: random.Random) -> Tensor:
        """The batch's pictures, half of them through the latents, some mirrored."""
        images = data.images(batch.index)
        chosen = rng.sample(range(len(images)), len(images) // 2)
        latents = data.latents[[batch.index[i] for i in chosen]].float()
        with torch.no_grad():
            noise = rng.uniform(*LATENT_NOISE) * torch.randn_like(latents)
            images[chosen] = decode(latents + noise).clamp(-1, 1)
        return images.flip(-1) if rng.random() < 0.5 else images

    def loss_of(step: int, rng: random.Random) -> Loss:
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            check = _batch(data, unseen, rng, CHECK_PROMPTS)
            with torch.no_grad():
                judged = scores(scorer, data.images(check.index), check.ids)
            figures["pairs"] = pair_accuracy(judged, check.utilities)
            figures["same_scene"] = pair_accuracy(judged[:, :5], check.utilities[:, :5])
        batch = _batch(data, lineups, rng, schedule.batch)
        judged = scores(scorer, seen(batch, rng), batch.ids)
        a, b = torch.triu_indices(judged.shape[1], judged.shape[1], 1)
        likely = torch.sigmoid(CHOICE_SHARPNESS * (batch.utilities[:, a] - batch.utilities[:, b]))
        chosen = torch.bernoulli(likely)
        loss = F.binary_cross_entropy_with_logits(judged[:, a] - judged[:, b], chosen)
        return loss, figures

    train("scorer", work / "scorer.pt", scorer, schedule, loss_of, average=True)


def trained_scorer(work: Path, data: Painted) -> tuple[CLIPModel, int]:
    """The averaged scorer and its step."""
    scorer = build_scorer(data.tokenizer)
    step = load_trained(work / "scorer.pt", scorer, average=True)
    return scorer.requires_grad_(False), step
