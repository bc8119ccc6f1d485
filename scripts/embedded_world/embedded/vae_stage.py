"""The `vae` stage: an AutoencoderTiny whose latents are the fixed linear ones.

The linear decoder shows the borders of its patches; a learned one does not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from embedded_world.embedded.dataset import Painted
from embedded_world.embedded.networks import LATENT_SCALE, build_vae
from embedded_world.embedded.speed import fast
from embedded_world.embedded.training import Loss, Schedule, load_trained, train

LATENT_NOISE = 0.05
ENCODER_EVERY = 8
"""Steps from one lesson of the encoder (which the pipeline does not use) to the next."""


def train_vae(work: Path, schedule: Schedule) -> None:
    data = Painted(work)
    torch.manual_seed(schedule.seed)
    vae = build_vae().to(memory_format=torch.channels_last)

    def loss_of(step: int, rng: random.Random) -> Loss:
        index = data.training_indices(rng, schedule.batch)
        latents, images = data.latents[index].float(), data.images(index)
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        with fast():
            decoded = vae.decode(noisy / LATENT_SCALE).sample.float()
        error = F.mse_loss(decoded, images)
        loss = F.l1_loss(decoded, images) + error
        if step % ENCODER_EVERY == 0:
            loss = loss + 0.1 * F.mse_loss(vae.encode(images).latents, latents / LATENT_SCALE)
        return loss, {"psnr": 10 * math.log10(4 / error.item())}

    train("vae", work / "vae.pt", vae, schedule, loss_of, average=True)


def trained_vae(work: Path) -> AutoencoderTiny:
    vae = build_vae()
    load_trained(work / "vae.pt", vae, average=True)
    return vae.requires_grad_(False)


def decoder(work: Path, data: Painted) -> Callable[[Tensor], Tensor]:
    """Latents to images: learned where that stage has run, linear before."""
    if not (work / "vae.pt").exists():
        return data.space.decode
    vae = trained_vae(work)

    def decode(latents: Tensor) -> Tensor:
        with fast():
            return vae.decode(latents / LATENT_SCALE).sample.float()

    return decode
