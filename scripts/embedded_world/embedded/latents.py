"""The latent space: the principal components of 8x8 patches, so a 64x64 picture is 8x8x32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embedded_world.embedded.files import save_tensors
from embedded_world.embedded.world import SIZE

PATCH = 8
CHANNELS = 32
GRID = SIZE // PATCH


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 pictures [n, h, w, 3] as floats [n, 3, h, w] in -1..1."""
    return pictures.float().permute(0, 3, 1, 2) / 127.5 - 1


def to_bytes(images: Tensor) -> np.ndarray:
    """Floats [n, 3, h, w] in -1..1 as uint8 [n, h, w, 3]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


@dataclass(frozen=True)
class LatentSpace:
    """A linear map between pictures and latents of roughly unit variance."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, pictures: Tensor) -> LatentSpace:
        patches = F.unfold(to_unit(pictures), PATCH, stride=PATCH).permute(0, 2, 1)
        patches = patches.reshape(-1, 3 * PATCH * PATCH)
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        values, vectors = values.flip(0)[:CHANNELS], vectors.flip(1)[:, :CHANNELS]
        half_white = values.sqrt().sqrt()
        scale = half_white * (values / half_white**2).mean().sqrt()
        return cls(mean, vectors.contiguous(), scale)

    @classmethod
    def load(cls, path: Path) -> LatentSpace:
        return cls(**torch.load(path, weights_only=True))

    def save(self, path: Path) -> None:
        save_tensors(path, {"mean": self.mean, "basis": self.basis, "scale": self.scale})

    def encode(self, images: Tensor) -> Tensor:
        """Images in -1..1 to latents [n, CHANNELS, GRID, GRID]."""
        patches = F.unfold(images, PATCH, stride=PATCH).permute(0, 2, 1)
        latents = (patches - self.mean) @ self.basis / self.scale
        return latents.permute(0, 2, 1).reshape(-1, CHANNELS, GRID, GRID)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents back to images; exact but for what the left-out components held."""
        patches = latents.flatten(2).permute(0, 2, 1) * self.scale @ self.basis.T + self.mean
        return F.fold(patches.permute(0, 2, 1), SIZE, PATCH, stride=PATCH)
