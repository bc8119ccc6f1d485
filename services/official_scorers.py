"""The official HPS checkpoints by name: verified, converted once, never unpickled again.

A converted scorer is a CLIPModel folder with a `scorer.json` that says how pictures and prompts
become its input; `clip_family` reads it.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from bigpe.services.errors import ConfigError, ServiceError
from bigpe.services.models import ModelRow, cache_folder, file_sha256
from bigpe.services.open_clip.weights import config_of, convert
from bigpe.services.values import Json

NOTE = "scorer.json"
TEXT_HEAD, VISION_HEAD = 64, 80


class Official(NamedTuple):
    """A checkpoint of the Hugging Face hub."""

    name: str
    repository: str
    revision: str
    file: str
    sha256: str
    size: int
    """Bytes."""
    licence: str


_HPS = ("xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a")
OFFICIAL = {
    row.name: row
    for row in (
        Official(
            "hpsv2", *_HPS, "HPS_v2_compressed.pt",
            "07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
            1_972_484_501, "Apache-2.0",
        ),
        Official(
            "hpsv2.1", *_HPS, "HPS_v2.1_compressed.pt",
            "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
            1_972_490_005, "Apache-2.0",
        ),
    )
}  # fmt: skip


def official_folder(name: str) -> Path:
    """Where the converted scorer lies, or would."""
    return cache_folder() / "models" / name


def list_official() -> list[ModelRow]:
    """The official scorers, here or not."""
    return [
        ModelRow(
            row.name,
            "scorer",
            row.size,
            row.licence,
            official_folder(row.name) if (official_folder(row.name) / NOTE).is_file() else None,
        )
        for row in OFFICIAL.values()
    ]


def find_official(name: str) -> Path:
    """The converted scorer's folder; ConfigError, saying how to get it, when it is not here."""
    folder = official_folder(name)
    if not (folder / NOTE).is_file():
        row = OFFICIAL[name]
        raise ConfigError(
            f"the scorer {name!r} is not here; fetch it with `bigpe models pull {name}` "
            f"({row.size / 1e9:.1f} GB), or, without internet, get {row.file} of "
            f"huggingface.co/{row.repository} and run `bigpe models pull {name} --file {row.file}`"
        )
    return folder


def pull_official(name: str, say: Callable[[str], None], *, file: Path | None = None) -> Path:
    """Fetch (or take `file`), verify and convert a checkpoint; returns the folder.

    ServiceError when it cannot be fetched, is another file, or has other weights.
    """
    folder = official_folder(name)
    if (folder / NOTE).is_file():
        return folder
    row = OFFICIAL[name]
    source = file or _download(row, say)
    say(f"checking {source.name} ...")
    if not source.is_file():
        raise ConfigError(f"there is no file {source}")
    found = file_sha256(source)
    if found != row.sha256:
        raise ServiceError(
            f"{source} has sha256 {found}, not {row.sha256}: it is damaged or not {row.file}; "
            "it was not used"
        )
    say("converting ...")
    note = {"source": row.file, "revision": row.revision, "source_sha256": row.sha256}
    convert_checkpoint(source, folder, note)
    return folder


def _download(row: Official, say: Callable[[str], None]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    say(f"fetching {row.file} of {row.repository} ({row.size / 1e9:.1f} GB) ...")
    try:
        return Path(hf_hub_download(row.repository, row.file, revision=row.revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ServiceError(
            f"{row.file} could not be fetched: {str(error)[:300]}; try again, or get the file "
            f"elsewhere and run `bigpe models pull {row.name} --file {row.file}`"
        ) from error


def convert_checkpoint(
    source: Path,
    folder: Path,
    note: Json,
    *,
    text_head: int = TEXT_HEAD,
    vision_head: int = VISION_HEAD,
) -> None:
    """Write the CLIPModel folder of an open_clip checkpoint, whole or not at all."""
    weights = convert(_read(source))
    config = config_of(weights, text_head=text_head, vision_head=vision_head)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    told = {"preprocess": "longest-side-pad", "tokenizer": "open_clip", **note}
    (partial / NOTE).write_text(json.dumps(told, indent=1), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _read(source: Path) -> dict[str, torch.Tensor]:
    try:
        loaded: Any = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ServiceError(
            f"{source} is not a checkpoint that can be read safely: {str(error)[:200]}"
        ) from error
    state: Any = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ServiceError(f"{source} holds no state_dict of weights")
    return state
