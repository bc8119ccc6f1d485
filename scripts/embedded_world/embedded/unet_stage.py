"""The `unet` stage: the denoiser, v-prediction on fixed latents, the text encoder frozen."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from embedded_world.embedded.dataset import Painted
from embedded_world.embedded.networks import build_scheduler, build_unet, millions
from embedded_world.embedded.speed import fast, use_plain_attention
from embedded_world.embedded.text_stage import trained_text
from embedded_world.embedded.training import Loss, Schedule, load_trained, train

EMPTY_SHARE = 0.1
"""Captions left empty, so that classifier-free guidance has something to steer away from."""


def train_unet(work: Path, schedule: Schedule) -> None:
    data = Painted(work)
    encoder = trained_text(work, data)
    torch.manual_seed(schedule.seed)
    unet = build_unet().to(memory_format=torch.channels_last)
    use_plain_attention(unet)
    print(f"unet: {millions(unet):.1f} M parameters", flush=True)
    scheduler = build_scheduler()
    alphas = scheduler.alphas_cumprod
    spread = torch.arange(schedule.batch) / schedule.batch

    def loss_of(step: int, rng: random.Random) -> Loss:
        index = data.training_indices(rng, schedule.batch)
        with torch.no_grad(), fast():
            words = encoder(data.caption_ids(index, rng, EMPTY_SHARE)).last_hidden_state.float()
        latents = data.latents[index].float()
        when = ((spread + rng.random()) % 1 * len(alphas)).long()
        noise = torch.randn_like(latents)
        keep = alphas[when].view(-1, 1, 1, 1)
        noisy = keep.sqrt() * latents + (1 - keep).sqrt() * noise
        target = keep.sqrt() * noise - (1 - keep).sqrt() * latents
        with fast():
            guess = unet(noisy.to(memory_format=torch.channels_last), when, words).sample
        return F.mse_loss(guess.float(), target), {}

    train("unet", work / "unet.pt", unet, schedule, loss_of, average=True)


def trained_unet(work: Path) -> tuple[UNet2DConditionModel, int]:
    """The averaged denoiser and its step."""
    unet = build_unet()
    step = load_trained(work / "unet.pt", unet, average=True)
    return unet.requires_grad_(False), step
