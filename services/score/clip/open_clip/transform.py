"""The picture transform of HPS (open_clip/transform.py, `resize_longest_max`), with torch alone."""

from __future__ import annotations

import torch
from torch.nn import functional

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class LongestSidePad:
    """Resize the longest side to `side`, centre on black, normalise.

    The resize is bicubic on floats, antialiased as torchvision does since 0.17, and not clamped.
    A picture whose longest side is `side` already is padded, too; the reference does not pad it
    and fails.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(STD).view(1, 3, 1, 1)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """[1, 3, height, width] in 0..1 to [1, 3, side, side], normalised."""
        height, width = picture.shape[-2:]
        scale = self._side / float(max(height, width))
        if scale != 1.0:
            wanted = (max(1, round(height * scale)), max(1, round(width * scale)))
            picture = functional.interpolate(
                picture, wanted, mode="bicubic", align_corners=False, antialias=True
            )
        down, right = (self._side - picture.shape[-2], self._side - picture.shape[-1])
        edges = (right // 2, right - right // 2, down // 2, down - down // 2)
        return (functional.pad(picture, edges) - self._mean) / self._std
