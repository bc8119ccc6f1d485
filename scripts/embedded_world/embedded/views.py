"""Pictures as the judging networks see them in training: painted, or through the latents."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor

from embedded_world.embedded.dataset import Painted
from embedded_world.embedded.vae_stage import decoder

LATENT_NOISE = 0.4
"""How far decoded pictures are disturbed at most, in standard deviations of a latent."""


class Views:
    """Some pictures of a batch come through the latents, disturbed, so that what a generator does
    to a picture is no news to whoever judges it."""

    def __init__(self, work: Path, data: Painted, share: float = 0.33) -> None:
        self._data, self._decode, self._share = data, decoder(work, data), share

    @torch.no_grad()
    def __call__(self, index: list[int], rng: random.Random) -> Tensor:
        images = self._data.images(index)
        chosen = rng.sample(range(len(index)), round(self._share * len(index)))
        if chosen:
            latents = self._data.latents[[index[i] for i in chosen]].float()
            noise = LATENT_NOISE * torch.rand(len(chosen), 1, 1, 1) * torch.randn_like(latents)
            images[chosen] = self._decode(latents + noise).clamp(-1, 1)
        return images.flip(-1) if rng.random() < 0.5 else images
