"""The scorer's own process: preference models of CLIP's shape.

The score is the cosine of the L2-normalised image and text features (HPS v2, hpsv2/img_score.py),
the text being the naive prompt. Scores are never scaled here; people are shown score x 100.
"""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image as Pictures
from PIL import UnidentifiedImageError
from torch.nn import functional

from bigpe.services import embedded
from bigpe.services.blobs import BlobStore
from bigpe.services.diffusers_backend import pick_device
from bigpe.services.errors import BigpeError, ConfigError, ScoreError
from bigpe.services.fingerprints import folder_fingerprint
from bigpe.services.score import ScoreConfig
from bigpe.services.values import Json, digest

FORMULA = "cosine/1: rgb, bicubic antialiased to the model's square, CLIP mean and deviation"
TEXTS_KEPT = 4096
MOST_PIXELS = 64_000_000
"""Of a picture; a larger one is refused before it is decoded."""


class ClipBackend:
    """A loaded CLIPModel."""

    def __init__(self, config: ScoreConfig, images: Path) -> None:
        self._blobs = BlobStore(images)
        self._device = pick_device(config.device)
        torch.set_num_threads(config.threads)
        self._folder = _folder(config.model)
        self._model, self._tokenizer, self._mean, self._std = _load(self._folder, config.model)
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
                rgb = picture.convert("RGB")
        except (UnidentifiedImageError, OSError, Pictures.DecompressionBombError) as error:
            raise ScoreError(f"picture {image[:8]} cannot be decoded: {error}") from error
        raw = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
        tensor = raw.view(rgb.height, rgb.width, 3).permute(2, 0, 1)[None].float() / 255
        if tensor.shape[-2:] != (self._side, self._side):
            tensor = functional.interpolate(
                tensor, (self._side, self._side), mode="bicubic", antialias=True
            )
        return (tensor - self._mean) / self._std

    def _text(self, prompt: str) -> tuple[torch.Tensor, int]:
        """Normalised text features, [1, width], and the tokens that were cut off; kept."""
        if prompt not in self._texts:
            full = self._tokenizer(prompt, truncation=False, verbose=False).input_ids
            ids = self._tokenizer(
                prompt, truncation=True, max_length=self._limit, return_tensors="pt"
            ).input_ids
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
    folder = Path(model)
    if not folder.is_dir():
        raise ConfigError(
            f'[score] model = {model!r}: there is no such folder. Available: "embedded", or the '
            "path of a CLIPModel folder (config.json, model.safetensors, tokenizer, preprocessor)"
        )
    return folder


def _load(folder: Path, name: str) -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
    try:
        model = transformers.CLIPModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32
        )
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        processor, _ = transformers.CLIPImageProcessor.get_image_processor_dict(str(folder))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"[score] model = {name!r} is not a usable CLIPModel folder: {str(error)[:400]}"
        ) from error
    mean = torch.tensor(processor["image_mean"]).view(1, 3, 1, 1)
    std = torch.tensor(processor["image_std"]).view(1, 3, 1, 1)
    return model, tokenizer, mean, std


def open_backend(config: Json) -> ClipBackend:
    """The factory that the worker process calls."""
    transformers.utils.logging.set_verbosity_error()
    return ClipBackend(ScoreConfig.model_validate(config["score"]), Path(config["images"]))
