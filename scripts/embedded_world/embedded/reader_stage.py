"""The `reader` stage: a small convolutional net that says what a picture shows.

It is the ground truth of experiments on generated pictures. The optimiser never loads it: it lies
outside the package data, and no module of the package names it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from embedded_world.embedded.attributes import (
    GROUPS,
    OUTPUTS,
    Reading,
    reading,
    reading_loss,
    truths,
)
from embedded_world.embedded.dataset import Painted
from embedded_world.embedded.latents import to_unit
from embedded_world.embedded.networks import millions
from embedded_world.embedded.speed import fast
from embedded_world.embedded.training import Loss, Schedule, load_trained, train
from embedded_world.embedded.views import Views

FILE = "reader.safetensors"
WIDTHS = (32, 64, 128, 192)
CHECK_EVERY = 100
CHECKED = 200


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(torch.nn.functional.silu(norm(y)))
        return x + y


class ReaderNet(nn.Module):
    """Images in -1..1 to the logits of every class and the value of every scalar."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(3, a, 4, 2, 1), _Residual(a),
            nn.Conv2d(a, b, 3, 2, 1), _Residual(b), _Residual(b),
            nn.Conv2d(b, c, 3, 2, 1), _Residual(c), _Residual(c),
            nn.Conv2d(c, d, 3, 2, 1), _Residual(d),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.GroupNorm(8, d), nn.SiLU(), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(d * 16, OUTPUTS),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.contiguous(memory_format=torch.channels_last)))


def train_reader(work: Path, schedule: Schedule) -> None:
    data = Painted(work)
    existing = truths(data.scenes)
    views = Views(work, data)
    torch.manual_seed(schedule.seed)
    net = ReaderNet().to(memory_format=torch.channels_last)
    print(f"reader: {millions(net):.1f} M parameters", flush=True)
    figures: dict[str, float] = {}

    def loss_of(step: int, rng: random.Random) -> Loss:
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            figures.update(_accuracies(net, data, rng))
        index = data.training_indices(rng, schedule.batch)
        with fast():
            outputs = net(views(index, rng))
        return reading_loss(outputs, existing.classes[index], existing.scalars[index]), figures

    train("reader", work / "reader.pt", net, schedule, loss_of, average=True)


@torch.no_grad()
def _accuracies(net: ReaderNet, data: Painted, rng: random.Random) -> dict[str, float]:
    index = [rng.randrange(data.held_out) for _ in range(CHECKED)]
    net.eval()
    read = reading(net(data.images(index)))
    net.train()
    wanted = truths([data.scenes[i] for i in index]).classes
    return {
        name: float((read.shares[name].argmax(1) == wanted[:, k]).float().mean())
        for k, name in enumerate(GROUPS)
    }


def trained_reader(work: Path) -> tuple[ReaderNet, int]:
    """The averaged reader and its step."""
    net = ReaderNet()
    step = load_trained(work / "reader.pt", net, average=True)
    return net.requires_grad_(False), step


class Reader:
    """The exported reader."""

    def __init__(self, folder: Path) -> None:
        self._net = ReaderNet().eval()
        state = load_file(folder / FILE)
        self._net.load_state_dict({name: value.float() for name, value in state.items()})

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image], batch: int = 128) -> Reading:
        stack = torch.from_numpy(np.stack([np.asarray(i.convert("RGB")) for i in images]))
        outputs = [self._net(to_unit(part)) for part in stack.split(batch)]
        return reading(torch.cat(outputs))
