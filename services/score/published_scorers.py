"""The table of published scorers, and the paths of their converted checkpoints.

A converted scorer is a CLIPModel folder with a `scorer.json` that says how pictures and prompts
become its input and what the score is; `clip.checkpoints` writes it, `clip.model` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, NamedTuple

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.models import embedded
from bigpe.services.models.downloads import ModelRow, cache_folder
from bigpe.services.models.fingerprints import file_fingerprint

NOTE = "scorer.json"
WEIGHTS = "model.safetensors"

Preprocessing = Literal["longest-side-pad", "shortest-side-crop", "shortest-side-crop-rounded"]
Tokenizing = Literal["open_clip", "transformers"]
Formula = Literal["cosine", "scaled-cosine", "clipscore"]
"""cosine: cos; scaled-cosine: exp(logit_scale) cos / 100; clipscore: 2.5 max(cos, 0)."""


class PublishedScorer(NamedTuple):
    """A checkpoint of the Hugging Face hub with its preprocessing and score formula."""

    name: str
    repository: str
    revision: str
    """A commit, or "main" without a recorded commit."""
    file: str
    sha256: str | None
    """None: not recorded here; the conversion records the digest instead of verifying it."""
    size: int
    """Size of the file, bytes."""
    licence: str
    layout: Literal["open_clip", "transformers"] = "open_clip"
    """The library whose names the tensors have."""
    text_head: int = 64
    vision_head: int = 80
    """Widths of an attention head; the defaults are those of ViT-H-14."""
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    preprocess: Preprocessing = "longest-side-pad"
    tokenizer: Tokenizing = "open_clip"
    formula: Formula = "cosine"
    prefix: str = ""
    """Prefix of every prompt."""


_HPS = ("xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a")
PUBLISHED_SCORERS = {
    row.name: row
    for row in (
        PublishedScorer(
            "hpsv2", *_HPS, "HPS_v2_compressed.pt",
            "07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
            1_972_484_501, "Apache-2.0",
        ),
        PublishedScorer(
            "hpsv2.1", *_HPS, "HPS_v2.1_compressed.pt",
            "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
            1_972_490_005, "Apache-2.0",
        ),
        PublishedScorer(
            "pickscore", "yuvalkirstain/PickScore_v1", "main", "model.safetensors", None,
            3_940_000_000, "not stated on its page",
            layout="transformers", preprocess="shortest-side-crop", tokenizer="transformers",
            formula="scaled-cosine",
        ),
        PublishedScorer(
            "clipscore", "openai/clip-vit-base-patch32",
            "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", "pytorch_model.bin",
            "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            605_247_071, "MIT",
            layout="transformers", vision_head=64, activation="quick_gelu",
            preprocess="shortest-side-crop-rounded", formula="clipscore",
            prefix="A photo depicts ",
        ),
    )
}  # fmt: skip
"""By name. Their scores are of different scales, never to be compared with one another."""


def official_folder(name: str) -> Path:
    """The folder of the converted scorer."""
    return cache_folder() / "models" / name


def list_official() -> list[ModelRow]:
    """All published scorers, downloaded or not."""
    return [
        ModelRow(
            row.name,
            "scorer",
            row.size,
            row.licence,
            official_folder(row.name) if read_note(row.name) is not None else None,
        )
        for row in PUBLISHED_SCORERS.values()
    ]


def read_note(name: str) -> Json | None:
    """The source of the converted scorer; None if there is none, or of another file."""
    try:
        note: Json = json.loads((official_folder(name) / NOTE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    row = PUBLISHED_SCORERS[name]
    same_file = row.sha256 in (None, note.get("source_sha256"))
    return note if same_file and note.get("formula") == row.formula else None


def find_official(name: str) -> Path:
    """The folder of the converted scorer. Raises ConfigError with the command that downloads it.

    The weights are verified; damaged weights raise ConfigError, too.
    """
    folder = official_folder(name)
    note = read_note(name)
    if note is None:
        raise ConfigError(f"the scorer {name!r} is not here; {how_to_place(name)}")
    weights = folder / WEIGHTS
    if not weights.is_file() or file_fingerprint(weights) != note["sha256"]:
        raise ConfigError(f"{weights} is damaged; delete {folder}, then {how_to_place(name)}")
    return folder


def scorer_folder(name: str) -> Path:
    """The CLIPModel folder of `[score] model`. Raises ConfigError if it is missing or damaged."""
    if name == "embedded":
        return embedded.scorer_path()
    if name == "embedded-guard":
        return embedded.guard_path()
    if name in PUBLISHED_SCORERS:
        return find_official(name)
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(
            f'[score] model = {name!r}: there is no such folder. Available: "embedded", '
            f"{', '.join(PUBLISHED_SCORERS)}, or the "
            "path of a CLIPModel folder (config.json, model.safetensors, tokenizer, preprocessor)"
        )
    return folder


def how_to_place(name: str) -> str:
    """How to get the scorer, with and without internet access."""
    row = PUBLISHED_SCORERS[name]
    where = f"https://huggingface.co/{row.repository}/resolve/{row.revision}/{row.file}"
    return (
        f"fetch it with `bigpe models pull {name}` ({row.size / 1e9:.1f} GB), or, without "
        f"internet, get {where} elsewhere and run `bigpe models pull {name} --file {row.file}`"
    )


def checkpoint_place(row: PublishedScorer) -> Path:
    """Path of the published file, which only the hpsv2 package needs."""
    return cache_folder() / "models" / row.file


def find_checkpoint(name: str) -> Path:
    """The verified .pt file of an HPS for the hpsv2 package. Raises ConfigError without it."""
    row = PUBLISHED_SCORERS.get(name)
    if row is None or row.layout != "open_clip":
        raise ConfigError(
            f'[score] backend = "hpsv2-package" needs model = "hpsv2" or "hpsv2.1", not {name!r}'
        )
    path = checkpoint_place(row)
    if not path.is_file():
        raise ConfigError(
            f"the hpsv2 package needs the published file itself, and {path} is not there: fetch it "
            f"with `bigpe models pull {name} --keep`, or place {row.file} of "
            f"huggingface.co/{row.repository} there"
        )
    if file_fingerprint(path) != row.sha256:
        raise ConfigError(f"{path} is not {row.file} of {row.repository}: its sha256 differs")
    return path
