"""The scorer's own process: preference models of CLIP's shape.

The score is the cosine of the L2-normalised image and text features (HPS v2, hpsv2/img_score.py),
the text being the naive prompt. Scores are never scaled here; people are shown score x 100.
"""

from __future__ import annotations

import io
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from PIL import Image as Pictures
from PIL import UnidentifiedImageError
from safetensors import SafetensorError
from torch.nn import functional

from bigpe.services import embedded
from bigpe.services.blobs import BlobStore
from bigpe.services.diffusers_backend import pick_device
from bigpe.services.errors import BigpeError, ConfigError, ScoreError
from bigpe.services.fingerprints import folder_fingerprint
from bigpe.services.official_scorers import NOTE, OFFICIAL, find_official
from bigpe.services.open_clip import tokenizer as open_clip_tokenizer
from bigpe.services.open_clip.transform import LongestSidePad
from bigpe.services.score import ScoreConfig
from bigpe.services.values import Json, digest

FORMULA = "cosine/1: rgb, antialiased float resize and centre crop as the folder says"
RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""PIL's numbers, which preprocessor files use, and torch's names."""
LONGEST_RATIO = 20
"""Of a picture's sides; a more extreme one is refused before it is resized."""
TEXTS_KEPT = 4096
MOST_PIXELS = 64_000_000
"""Of a picture; a larger one is refused before it is decoded."""


class Preprocess(NamedTuple):
    """How a picture becomes the model's input, from preprocessor_config.json.

    The steps are those of transformers' CLIPImageProcessor, on floats: it rounds to whole colour
    levels after resizing, this does not.
    """

    shortest: int | None
    """Resize the shortest side to so many pixels and keep the proportions; or None, and"""
    exact: tuple[int, int] | None
    """resize to (height, width); None, too: no resizing."""
    crop: tuple[int, int] | None
    """Then cut (height, width) from the middle."""
    resampling: str
    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def read(cls, told: Json) -> Preprocess:
        """From the file's content; KeyError or ValueError when it says what is not known here."""
        size = told.get("size") if told.get("do_resize", True) else {}
        size = {"shortest_edge": size} if isinstance(size, int) else dict(size or {})
        crop = told.get("crop_size") if told.get("do_center_crop", True) else None
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        resample = int(told.get("resample", 3))
        if resample not in RESAMPLING:
            raise ValueError(f"resample = {resample} is not one of {sorted(RESAMPLING)}")
        return cls(
            shortest=size.get("shortest_edge"),
            exact=(size["height"], size["width"]) if "height" in size else None,
            crop=(crop["height"], crop["width"]) if crop else None,
            resampling=RESAMPLING[resample],
            mean=torch.tensor(told["image_mean"]).view(1, 3, 1, 1),
            std=torch.tensor(told["image_std"]).view(1, 3, 1, 1),
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


Encode = Callable[[str], list[int]]
"""A prompt's token ids, start and end included, uncut."""
Prepare = Callable[[torch.Tensor], torch.Tensor]
"""A picture [1, 3, height, width] in 0..1, as the model takes it."""


class ClipBackend:
    """A loaded CLIPModel."""

    def __init__(self, config: ScoreConfig, images: Path) -> None:
        self._blobs = BlobStore(images)
        self._device = pick_device(config.device)
        torch.set_num_threads(config.threads)
        self._folder = _folder(config.model)
        self._model, self._encode, self._prepare = _load(self._folder, config.model)
        self._model.to(self._device).eval()
        self._side = int(self._model.config.vision_config.image_size)
        self._limit = int(self._model.config.text_config.max_position_embeddings)
        self._texts: OrderedDict[str, tuple[torch.Tensor, int]] = OrderedDict()

    def handle(self, method: str, payload: Json) -> Json:
        """`fingerprint`, or `score` with "items" of image digest and prompt."""
        if method == "fingerprint":
            return {"fingerprint": self.fingerprint}
        if method != "score":
            raise ScoreError(f"the scorer has no method {method!r}")
        return {"items": self._score(payload["items"])}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of weights, preprocessing and formula."""
        return digest(
            {
                "weights": folder_fingerprint(self._folder),
                "formula": FORMULA,
                "device": self._device,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
        )

    @torch.inference_mode()
    def _score(self, items: Sequence[Json]) -> list[Json]:
        """One picture a forward: a score must not depend on the company of its batch."""
        return [self._one(str(item["image"]), str(item["prompt"])) for item in items]

    def _one(self, image: str, prompt: str) -> Json:
        try:
            pixels = self._pixels(image)
        except BigpeError as error:
            return {"error": str(error)}
        features = self._model.visual_projection(
            self._model.vision_model(pixel_values=pixels.to(self._device)).pooler_output
        )
        text, cut = self._text(prompt)
        value = float((functional.normalize(features.float(), dim=-1) @ text.T).item())
        if not math.isfinite(value):
            return {"error": f"the score of picture {image[:8]} is not a number"}
        return {"value": value, "fingerprint": self.fingerprint, "truncated_tokens": cut}

    def _pixels(self, image: str) -> torch.Tensor:
        """The normalised picture, [1, 3, side, side]."""
        data = self._blobs.read(image)
        try:
            with Pictures.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ScoreError(f"picture {image[:8]} has more than {MOST_PIXELS:,} pixels")
                if max(picture.size) > LONGEST_RATIO * min(picture.size):
                    raise ScoreError(f"picture {image[:8]} is longer than {LONGEST_RATIO} : 1")
                rgb = picture.convert("RGB")
        except (UnidentifiedImageError, OSError, Pictures.DecompressionBombError) as error:
            raise ScoreError(f"picture {image[:8]} cannot be decoded: {error}") from error
        raw = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
        tensor = raw.view(rgb.height, rgb.width, 3).permute(2, 0, 1)[None].float() / 255
        ready = self._prepare(tensor)
        if ready.shape[-2:] != (self._side, self._side):
            raise ScoreError(
                f"the scorer's preprocessor_config.json makes {tuple(ready.shape[-2:])} pixels of "
                f"picture {image[:8]}, but its model takes {self._side} x {self._side}"
            )
        return ready

    def _text(self, prompt: str) -> tuple[torch.Tensor, int]:
        """Normalised text features, [1, width], and the tokens that were cut off; kept."""
        if prompt not in self._texts:
            full = self._encode(prompt)
            kept = full if len(full) <= self._limit else [*full[: self._limit - 1], full[-1]]
            # Attention is causal: what follows the first end token cannot reach it.
            kept = kept[: kept.index(full[-1]) + 1]
            ids = torch.tensor([kept])
            pooled = self._model.text_model(input_ids=ids.to(self._device)).pooler_output
            features = functional.normalize(self._model.text_projection(pooled).float(), dim=-1)
            self._texts[prompt] = (features, max(0, len(full) - self._limit))
            if len(self._texts) > TEXTS_KEPT:
                self._texts.popitem(last=False)
        self._texts.move_to_end(prompt)
        return self._texts[prompt]


def _folder(model: str) -> Path:
    if model == "embedded":
        return embedded.scorer_path()
    if model in OFFICIAL:
        return find_official(model)
    folder = Path(model)
    if not folder.is_dir():
        raise ConfigError(
            f'[score] model = {model!r}: there is no such folder. Available: "embedded", '
            f"{', '.join(OFFICIAL)}, or the "
            "path of a CLIPModel folder (config.json, model.safetensors, tokenizer, preprocessor)"
        )
    return folder


def _load(folder: Path, name: str) -> tuple[Any, Encode, Prepare]:
    try:
        clip: Any = transformers.CLIPModel  # its stub forgets what output_loading_info returns
        model, report = clip.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        encode, prepare = _inputs(folder, int(model.config.vision_config.image_size))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"[score] model = {name!r} is not a usable CLIPModel folder: {str(error)[:400]}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        # transformers would fill them with random numbers: every score would be noise.
        raise ConfigError(
            f"[score] model = {name!r} is not a whole CLIPModel: {len(missing)} weights are not in "
            f"model.safetensors, the first is {missing[0]}"
        )
    return model, encode, prepare


def _inputs(folder: Path, side: int) -> tuple[Encode, Prepare]:
    """How prompts become token ids and pictures tensors, as the folder's files say."""
    note = folder / NOTE
    if note.is_file():
        told = json.loads(note.read_text("utf-8"))
        if (told["preprocess"], told["tokenizer"]) != ("longest-side-pad", "open_clip"):
            raise ValueError(f"{NOTE} asks for a preprocess or tokenizer that bigpe does not have")
        return open_clip_tokenizer.encode, LongestSidePad(side)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    read, _ = transformers.CLIPImageProcessor.get_image_processor_dict(str(folder))

    def encode(prompt: str) -> list[int]:
        return list(tokenizer(prompt, truncation=False, verbose=False).input_ids)

    return encode, Preprocess.read(read)


def open_backend(config: Json) -> ClipBackend:
    """The factory that the worker process calls."""
    transformers.utils.logging.set_verbosity_error()
    return ClipBackend(ScoreConfig.model_validate(config["score"]), Path(config["images"]))
