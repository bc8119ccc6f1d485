"""Image preprocessing of each CLIP scorer.

Resizing differs between scorers, and scores follow it: HPS resizes floats with antialiasing and
pads, PickScore and CLIPScore resize whole colour levels and crop. None of it needs torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import PIL
import torch
import transformers
from PIL import Image as Pictures
from torch.nn import functional

from bigpe.services.core.errors import ScoreError
from bigpe.services.core.values import Json
from bigpe.services.score.clip.open_clip.transform import MEAN, STD, LongestSidePad
from bigpe.services.score.published_scorers import Preprocessing

RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""Resampling methods: PIL's numbers, which preprocessor files use, and torch's names."""


class Preprocess(Protocol):
    """Converts an image into the model's input."""

    description: str
    """Identifies everything that affects the input, except the folder's files."""

    def __call__(self, picture: Pictures.Image) -> torch.Tensor:
        """The normalised pixels, float32 [1, 3, height, width]; `picture` is RGB."""
        ...


def levels_of(picture: Pictures.Image) -> torch.Tensor:
    """The picture's colour levels as floats in 0..1, [1, 3, height, width]."""
    raw = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return raw.view(picture.height, picture.width, 3).permute(2, 0, 1)[None].float() / 255


class OnFloats:
    """Steps on the picture's levels as floats: no rounding to whole colour levels in between."""

    def __init__(self, steps: Callable[[torch.Tensor], torch.Tensor], description: str) -> None:
        self._steps = steps
        self.description = description

    def __call__(self, picture: Pictures.Image) -> torch.Tensor:
        """See `Preprocess`."""
        return self.fit(levels_of(picture))

    def fit(self, picture: torch.Tensor) -> torch.Tensor:
        """The same from floats in 0..1, [1, 3, height, width]; ScoreError when not all finite."""
        if not torch.isfinite(picture).all():
            raise ScoreError("the picture has pixels that are not finite")
        return self._steps(picture)


class ShortestSideCrop:
    """Resize of colour levels by Pillow to the shortest side, and a cut from the middle.

    transformers' CLIPImageProcessor, and (`rounded`) OpenAI's clip.load: they differ by a pixel
    where the border to cut off is odd.
    """

    def __init__(self, side: int = 224, *, rounded: bool) -> None:
        self._side = side
        self._rounded = rounded
        self._mean, self._std = _channels(MEAN), _channels(STD)
        how = "rounded" if rounded else "floored"
        self.description = f"shortest side {side}, Pillow {PIL.__version__} bicubic, crop {how}"

    def __call__(self, picture: Pictures.Image) -> torch.Tensor:
        """See `Preprocess`."""
        short, long = min(picture.size), max(picture.size)
        if short != self._side:
            longer = int(self._side * long / short)
            tall = picture.width <= picture.height
            size = (self._side, longer) if tall else (longer, self._side)
            picture = picture.resize(size, Pictures.Resampling.BICUBIC)
        left, top = self._border(picture.width), self._border(picture.height)
        picture = picture.crop((left, top, left + self._side, top + self._side))
        return (levels_of(picture) - self._mean) / self._std

    def _border(self, length: int) -> int:
        spare = length - self._side
        return round(spare / 2) if self._rounded else spare // 2


class FolderPreprocess(NamedTuple):
    """The settings of a model folder's preprocessor_config.json.

    The steps are those of transformers' CLIPImageProcessor, on floats: it rounds to whole colour
    levels after resizing, this does not.
    """

    shortest: int | None
    """Resize the shortest side to this number of pixels and keep the proportions; or None, and"""
    exact: tuple[int, int] | None
    """resize to (height, width); None, too: no resizing."""
    crop: tuple[int, int] | None
    """Then cut (height, width) from the middle."""
    resampling: str
    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def read(cls, settings: Json) -> FolderPreprocess:
        """From the file's content; KeyError or ValueError when it says what is not known here."""
        size = settings.get("size") if settings.get("do_resize", True) else {}
        size = {"shortest_edge": size} if isinstance(size, int) else dict(size or {})
        crop = settings.get("crop_size") if settings.get("do_center_crop", True) else None
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        resample = int(settings.get("resample", 3))
        if resample not in RESAMPLING:
            raise ValueError(f"resample = {resample} is not one of {sorted(RESAMPLING)}")
        return cls(
            shortest=size.get("shortest_edge"),
            exact=(size["height"], size["width"]) if "height" in size else None,
            crop=(crop["height"], crop["width"]) if crop else None,
            resampling=RESAMPLING[resample],
            mean=_channels(settings["image_mean"]),
            std=_channels(settings["image_std"]),
        )

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """`picture` is [1, 3, height, width] in 0..1."""
        height, width = picture.shape[-2:]
        wanted = self.exact or (height, width)
        if self.shortest is not None:
            short = min(height, width)
            wanted = (self.shortest * height // short, self.shortest * width // short)
        if wanted != (height, width):
            picture = functional.interpolate(picture, wanted, mode=self.resampling, antialias=True)
        if self.crop is not None:
            top = (picture.shape[-2] - self.crop[0]) // 2
            left = (picture.shape[-1] - self.crop[1]) // 2
            picture = picture[..., top : top + self.crop[0], left : left + self.crop[1]]
        return (picture - self.mean) / self.std


def official_preprocess(kind: Preprocessing, side: int) -> Preprocess:
    """A named scorer's preprocessing, to `side` x `side` pixels."""
    if kind == "longest-side-pad":
        description = f"longest side {side}, padded, bicubic on floats, antialias, clip mean"
        return OnFloats(LongestSidePad(side), description)
    return ShortestSideCrop(side, rounded=kind == "shortest-side-crop-rounded")


def folder_preprocess(folder: Path) -> Preprocess:
    """The preprocessing of a model folder. Raises OSError, KeyError or ValueError."""
    processor: Any = transformers.CLIPImageProcessor
    settings, _ = processor.get_image_processor_dict(str(folder))
    return OnFloats(FolderPreprocess.read(settings), "as the folder says, on floats, antialias")


def _channels(values: Any) -> torch.Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)
