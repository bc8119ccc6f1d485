"""The process of a CLIP scorer: published scorers and any CLIPModel folder.

A score is the scorer's formula of the cosine of image features and features of the naive prompt.
The score of HPS is the cosine itself (hpsv2/img_score.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from cachetools import LRUCache

from bigpe.services.core.errors import BigpeError, ScoreError
from bigpe.services.core.image_decoding import decode
from bigpe.services.core.values import Json, digest
from bigpe.services.models.fingerprints import folder_fingerprint
from bigpe.services.processes.devices import pick_device, pick_dtype
from bigpe.services.score.clip import packed_linear
from bigpe.services.score.clip.model import load_scoring
from bigpe.services.score.clip.packed_linear import pack_linears
from bigpe.services.score.service import ScoreConfig
from bigpe.services.store.blobs import BlobStore

CACHE_BYTES = 64 * 1024 * 1024
"""Size of each feature cache, text and image: 16 000 prompts of HPS."""
ENTRY_BYTES = 512
"""Approximate overhead of a cached feature."""
PREPARING = 2
"""Threads that decode and resize the next pictures during a forward."""


class ClipBackend:
    """A loaded scorer; what `bigpe.services.processes.worker_main` serves."""

    def __init__(self, config: ScoreConfig, images: Path) -> None:
        self._blobs = BlobStore(images)
        self._device = pick_device(config.device)
        torch.set_num_threads(config.threads)
        self._scoring = load_scoring(config.model)
        self._dtype = pick_dtype(config.dtype, self._device)
        self._model = self._scoring.model.to(self._device, self._dtype)
        packed = self._device == "cpu" and pack_linears(self._model)
        self._products = packed_linear.TOLD if packed else "torch"
        # On a CPU, batches gain only 2-5%, and a single image's score never depends on a batch.
        self._rows = config.max_batch if self._device == "cuda" else 1
        self._see: Callable[[torch.Tensor], torch.Tensor] = self._scoring.image_features
        if config.compile:
            self._see = torch.compile(self._see, dynamic=False)
        self._pool = ThreadPoolExecutor(PREPARING, "preprocess")
        self._texts: LRUCache[str, tuple[torch.Tensor, int]] = LRUCache(
            CACHE_BYTES, getsizeof=lambda kept: _bytes(kept[0])
        )
        self._pictures: LRUCache[str, torch.Tensor] = LRUCache(CACHE_BYTES, getsizeof=_bytes)

    def handle(self, method: str, payload: Json) -> Json:
        """`fingerprint`, `score` with "items" of image digest and prompt, `features` of "image"."""
        if method == "fingerprint":
            return {"fingerprint": self.fingerprint, "fingerprint_inputs": self.fingerprint_inputs}
        if method == "features":
            return self._seen(str(payload["image"]))
        if method != "score":
            raise ScoreError(f"the scorer has no method {method!r}")
        return {"items": self._score(payload["items"])}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that a score depends on."""
        return digest(self.fingerprint_inputs)

    @cached_property
    def fingerprint_inputs(self) -> Json:
        """What the fingerprint is a digest of."""
        return {
            "weights": folder_fingerprint(self._scoring.folder),
            **self._scoring.fingerprint_inputs,
            "device": self._device,
            "dtype": str(self._dtype),
            "rows": self._rows,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    @torch.inference_mode()
    def _score(self, items: Sequence[Json]) -> list[Json]:
        """Score items; each distinct image and prompt is encoded once."""
        images = list(dict.fromkeys(str(item["image"]) for item in items))
        features = self._features(images)
        return [
            self._one(str(item["image"]), features[str(item["image"])], str(item["prompt"]))
            for item in items
        ]

    @torch.inference_mode()
    def _seen(self, image: str) -> Json:
        feature = self._features([image])[image]
        if isinstance(feature, BigpeError):
            return {"error": str(feature)}
        return {"features": [round(value, 6) for value in feature[0].tolist()]}

    def _one(self, image: str, feature: torch.Tensor | BigpeError, prompt: str) -> Json:
        if isinstance(feature, BigpeError):
            return {"error": str(feature)}
        text, cut = self._text(prompt)
        value = self._scoring.value(float((feature @ text.T).item()))
        if not math.isfinite(value):
            return {"error": f"the score of picture {image[:8]} is not a number"}
        return {"value": value, "fingerprint": self.fingerprint, "truncated_tokens": cut}

    def _features(self, images: Sequence[str]) -> dict[str, torch.Tensor | BigpeError]:
        """L2-normalised features [1, width] on the CPU, or the error, by image."""
        # Copied out of the cache: it may drop them before the batch is done.
        found: dict[str, torch.Tensor | BigpeError] = {
            image: self._pictures[image] for image in images if image in self._pictures
        }
        waiting: list[tuple[str, torch.Tensor]] = []
        for image, ready in self._prepared(image for image in images if image not in found):
            if isinstance(ready, BigpeError):
                found[image] = ready
                continue
            waiting.append((image, ready))
            if len(waiting) == self._rows:
                found |= self._forward(waiting)
                waiting = []
        return found | (self._forward(waiting) if waiting else {})

    def _forward(self, ready: Sequence[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """One forward, always of `_rows` rows: the last batch is filled up with black."""
        side = self._scoring.side
        pixels = torch.zeros(self._rows, 3, side, side)
        for row, (_, pixels_of_image) in enumerate(ready):
            pixels[row] = pixels_of_image[0]
        try:
            features = self._see(pixels.to(self._device, self._dtype)).cpu()
        except torch.OutOfMemoryError as error:
            raise ScoreError(f"out of memory: {error}; lower [score] max_batch") from error
        made = {image: features[row : row + 1].clone() for row, (image, _) in enumerate(ready)}
        self._pictures.update(made)
        return made

    def _prepared(self, images: Iterable[str]) -> Iterator[tuple[str, torch.Tensor | BigpeError]]:
        """The pixels of the images in order; other threads prepare the next images."""
        rest = iter(images)
        ahead: deque[tuple[str, Future[torch.Tensor | BigpeError]]] = deque()
        for image in islice(rest, self._rows + PREPARING):
            ahead.append((image, self._pool.submit(self._pixels, image)))
        while ahead:
            image, future = ahead.popleft()
            for following in islice(rest, 1):
                ahead.append((following, self._pool.submit(self._pixels, following)))
            yield image, future.result()

    def _pixels(self, image: str) -> torch.Tensor | BigpeError:
        """The normalised picture, [1, 3, side, side]."""
        side = self._scoring.side
        try:
            ready = self._scoring.preprocess(
                decode(self._blobs.read(image), f"picture {image[:8]}")
            )
            if ready.shape[-2:] != (side, side):
                raise ScoreError(
                    f"the scorer's preprocessor_config.json makes {tuple(ready.shape[-2:])} pixels "
                    f"of picture {image[:8]}, but its model takes {side} x {side}"
                )
        except BigpeError as error:
            return error
        except MemoryError:
            return ScoreError(f"picture {image[:8]} does not fit into memory")
        return ready

    def _text(self, prompt: str) -> tuple[torch.Tensor, int]:
        """Normalised text features [1, width] on the CPU, and the tokens that were cut off."""
        kept = self._texts.get(prompt)
        if kept is None:
            tokens = self._scoring.tokens(prompt)
            ids = torch.tensor([tokens.ids], device=self._device)
            kept = (self._scoring.text_features(ids).cpu(), tokens.cut)
            self._texts[prompt] = kept
        return kept


def _bytes(feature: torch.Tensor) -> int:
    return feature.numel() * feature.element_size() + ENTRY_BYTES


def open_backend(config: Json) -> ClipBackend:
    """The factory that the worker process calls."""
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    return ClipBackend(ScoreConfig.model_validate(config["score"]), Path(config["images"]))
