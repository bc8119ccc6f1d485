"""Scoring with a CLIPModel folder: pixels, tokens, features, formula.

A folder with a `scorer.json` (see `checkpoints`) is a published scorer and does as its authors do;
any other one does as its preprocessor and tokenizer files say, with the cosine as the score.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from safetensors import SafetensorError
from torch.nn import functional

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.score.clip.open_clip import tokenizer as open_clip_tokenizer
from bigpe.services.score.clip.open_clip.tokenizer import Tokens, seen_tokens
from bigpe.services.score.clip.preprocessing import (
    Preprocess,
    folder_preprocess,
    official_preprocess,
)
from bigpe.services.score.published_scorers import NOTE, Formula, scorer_folder

SHOWN = 100
"""Factor of displayed scores. PickScore then equals the values on its model card."""
CLIPSCORE_WEIGHT = 2.5
"""w of Hessel et al. 2021 (arXiv 2104.08718), equation 1."""


class ClipScoring(NamedTuple):
    """A scorer's model with its input and output."""

    folder: Path
    model: Any
    preprocess: Preprocess
    encode: Callable[[str], list[int]]
    """Returns a prompt's token ids with start and end, not truncated."""
    tokenizer_name: str
    """Identifies everything that affects the ids, except the folder's files."""
    formula: Formula = "cosine"
    prefix: str = ""
    """Prefix of every prompt."""

    @property
    def side(self) -> int:
        """Side of the model's square input, pixels."""
        return int(self.model.config.vision_config.image_size)

    @property
    def fingerprint_inputs(self) -> Json:
        """Everything that affects scores besides weights, device and releases."""
        return {
            "preprocess": self.preprocess.description,
            "tokens": self.tokenizer_name,
            "formula": self.formula,
            "prefix": self.prefix,
        }

    def tokens(self, prompt: str) -> Tokens:
        """The tokens of a prompt that the model reads."""
        limit = int(self.model.config.text_config.max_position_embeddings)
        return seen_tokens(self.encode(self.prefix + prompt), limit)

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """L2-normalised float32 [n, width] of pixels [n, 3, side, side]."""
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return functional.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    def text_features(self, ids: torch.Tensor) -> torch.Tensor:
        """L2-normalised float32 [1, width] of ids [1, length] that end with the end token."""
        pooled = self.model.text_model(input_ids=ids).pooler_output
        return functional.normalize(self.model.text_projection(pooled).float(), dim=-1)

    def value(self, cosine: float) -> float:
        """The score of a cosine in [-1, 1], on the scorer's own scale."""
        if self.formula == "scaled-cosine":
            return cosine * float(self.model.logit_scale.float().exp()) / SHOWN
        if self.formula == "clipscore":
            # Comparisons with NaN are false: max() would hide it.
            return CLIPSCORE_WEIGHT * (0.0 if cosine < 0 else cosine)
        return cosine


def load_scoring(name: str) -> ClipScoring:
    """The scorer of `[score] model` on the CPU in float32. Raises ConfigError if it is missing."""
    folder = scorer_folder(name)
    try:
        clip: Any = transformers.CLIPModel  # its stub forgets what output_loading_info returns
        model, report = clip.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        for weight in model.parameters():
            # The loaded weights are in an unaligned mapped file, which slows forwards by 10%.
            weight.data = weight.data.clone()
        scoring = _scoring(folder, model.eval())
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"[score] model = {name!r} is not a usable CLIPModel folder: {str(error)[:400]}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        # transformers would fill them with random numbers.
        raise ConfigError(
            f"[score] model = {name!r} is not a whole CLIPModel: {len(missing)} weights are not in "
            f"model.safetensors, the first is {missing[0]}"
        )
    return scoring


def _scoring(folder: Path, model: Any) -> ClipScoring:
    if not (folder / NOTE).is_file():
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        encode, tokenizer_name = _encoder(tokenizer), "as the folder says"
        return ClipScoring(folder, model, folder_preprocess(folder), encode, tokenizer_name)
    note: Json = json.loads((folder / NOTE).read_text("utf-8"))
    side = int(model.config.vision_config.image_size)
    if note["tokenizer"] == "open_clip":
        encode = open_clip_tokenizer.encode
        tokenizer_name = f"open_clip, {open_clip_tokenizer.releases()}"
    else:
        encode, tokenizer_name = _encoder(_clip_tokenizer()), "transformers CLIPTokenizer"
    return ClipScoring(
        folder,
        model,
        official_preprocess(note["preprocess"], side),
        encode,
        tokenizer_name,
        note["formula"],
        note["prefix"],
    )


def _encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    def encode(prompt: str) -> list[int]:
        return list(tokenizer(prompt, truncation=False, verbose=False).input_ids)

    return encode


def _clip_tokenizer() -> Any:
    """transformers' CLIPTokenizer with CLIP's own vocabulary, as PickScore's authors use it."""
    ids, merges = open_clip_tokenizer.vocabulary()
    start, end = open_clip_tokenizer.START, open_clip_tokenizer.END
    renamed = {start: "<|startoftext|>", end: "<|endoftext|>"}
    made: Any = transformers.CLIPTokenizer  # its annotation of `merges` knows no pairs
    return made(vocab={renamed.get(word, word): id for word, id in ids.items()}, merges=merges)
