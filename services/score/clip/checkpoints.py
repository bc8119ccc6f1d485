"""Verifies a published checkpoint and converts it once into a CLIPModel folder.

A .pt or .bin file is a pickle: its digest is verified and it is read with weights_only=True. Each
tensor of the file must belong to the model, and each tensor of the model must be in the file.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import errors as hub_errors
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bigpe.services.core.errors import ConfigError, ServiceError
from bigpe.services.core.values import Json
from bigpe.services.models.downloads import file_sha256
from bigpe.services.score.clip.open_clip.weights import State, config_of, convert
from bigpe.services.score.published_scorers import (
    NOTE,
    PUBLISHED_SCORERS,
    WEIGHTS,
    PublishedScorer,
    checkpoint_place,
    find_official,
    how_to_place,
    official_folder,
    read_note,
)

CONSTANTS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
"""Tensors in older transformers files that the model computes itself."""
TRANSPORT: type[Exception] = vars(hub_errors)["HTTPError"]
"""HTTP error class of the hub's client; its releases use different HTTP libraries."""


def pull_official(
    name: str,
    say: Callable[[str], None],
    *,
    file: Path | None = None,
    endpoint: str | None = None,
    keep: bool = False,
) -> Path:
    """Download a checkpoint (or use `file`), verify and convert it; returns the folder.

    An interrupted download is resumed. `endpoint` is the address of another hub. `keep` also keeps
    the published file for the hpsv2 package. Raises ServiceError if the file cannot be downloaded,
    or if its digest or its weights are wrong.
    """
    row, folder = PUBLISHED_SCORERS[name], official_folder(name)
    kept = not keep or checkpoint_place(row).is_file()
    if kept and read_note(name) is not None:
        return find_official(name)
    fetched = folder.with_name(f".pull-{name}")
    source = file or _download(row, fetched, say, endpoint)
    if not source.is_file():
        raise ConfigError(f"there is no file {source}")
    say(f"checking {source.name} ...")
    found = _verified(row, source)
    if read_note(name) is None:
        say("converting ...")
        convert_checkpoint(row, source, folder, found)
    if keep:
        _keep(source, checkpoint_place(row))
    # Last, because the service reads only the converted folder.
    shutil.rmtree(fetched, ignore_errors=True)
    return folder


def convert_checkpoint(
    row: PublishedScorer, source: Path, folder: Path, source_sha256: str
) -> None:
    """Write the CLIPModel folder of a checkpoint atomically.

    Raises ServiceError for a missing, unknown or misshapen tensor, and if the disk is full.
    """
    held = _read(source)
    weights = convert(held) if row.layout == "open_clip" else _without_constants(held)
    config = _config(row, weights, source)
    _require_whole(config, weights, source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        save_file(_unshared(weights), partial / WEIGHTS, metadata={"format": "pt"})
        (partial / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
        note = _note(row, source_sha256, file_sha256(partial / WEIGHTS))
        (partial / NOTE).write_text(json.dumps(note, indent=1) + "\n", "utf-8")
        _sync(partial)
        partial.chmod(0o755)  # mkdtemp's mode is private; a cache may be shared
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ServiceError(f"cannot write {folder}: {error}; free some space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _keep(source: Path, place: Path) -> None:
    """Copy the file atomically."""
    if place.exists() and source.samefile(place):
        return
    partial = place.with_name(f".{place.name}.part")
    try:
        shutil.copyfile(source, partial)
        partial.replace(place)
    except OSError as error:
        raise ServiceError(f"cannot write {place}: {error}; free some space") from error
    finally:
        partial.unlink(missing_ok=True)


def _verified(row: PublishedScorer, source: Path) -> str:
    """The file's sha256. Raises ServiceError if it differs from the recorded digest."""
    found = file_sha256(source)
    if row.sha256 is None or found == row.sha256:
        return found
    # Some files on the hub have the name of one version and the content of another.
    other = next(
        (scorer.name for scorer in PUBLISHED_SCORERS.values() if scorer.sha256 == found), None
    )
    hint = f"it is that of {other}" if other else f"it is damaged or not {row.file}"
    raise ServiceError(f"{source} has sha256 {found}, not {row.sha256}: {hint}; it was not used")


def _download(
    row: PublishedScorer, folder: Path, say: Callable[[str], None], endpoint: str | None
) -> Path:
    say(f"fetching {row.file} of {row.repository} ({row.size / 1e9:.1f} GB) ...")
    try:
        return Path(
            hf_hub_download(
                row.repository,
                row.file,
                revision=row.revision,
                local_dir=folder,
                endpoint=endpoint,
            )
        )
    except (OSError, ValueError, TRANSPORT) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ServiceError(
            f"{row.file} could not be fetched: {first[:300]}; {how_to_place(row.name)}"
        ) from error


def _note(row: PublishedScorer, source_sha256: str, sha256: str) -> Json:
    """The content of scorer.json."""
    return {
        "name": row.name,
        "source": row.file,
        "repository": row.repository,
        "revision": row.revision,
        "licence": row.licence,
        "source_sha256": source_sha256,
        "sha256": sha256,
        "preprocess": row.preprocess,
        "tokenizer": row.tokenizer,
        "formula": row.formula,
        "prefix": row.prefix,
    }


def _config(row: PublishedScorer, weights: State, source: Path) -> Json:
    try:
        config = config_of(weights, text_head=row.text_head, vision_head=row.vision_head)
    except KeyError as error:
        raise ServiceError(f"{source} is not a CLIPModel: it has no {error}") from error
    for tower in ("text_config", "vision_config"):
        config[tower]["hidden_act"] = row.activation
    return config


def _require_whole(config: Json, weights: State, source: Path) -> None:
    """Raise ServiceError for missing weights, which would silently stay random."""
    with torch.device("meta"):
        wanted = transformers.CLIPModel(transformers.CLIPConfig.from_dict(config)).state_dict()
    if missing := sorted(wanted.keys() - weights.keys()):
        raise ServiceError(f"{source} lacks {len(missing)} weights, the first is {missing[0]!r}")
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise ServiceError(f"{source} has unknown weights, the first is {unknown[0]!r}")
    for name, like in wanted.items():
        if weights[name].shape != like.shape or not weights[name].is_floating_point():
            raise ServiceError(
                f"{source}: {name!r} is {weights[name].dtype} {tuple(weights[name].shape)}, not "
                f"floating point {tuple(like.shape)}"
            )


def _without_constants(held: State) -> State:
    return {name: value for name, value in held.items() if name not in CONSTANTS}


def _unshared(weights: State) -> State:
    """Copies without shared memory, which safetensors refuses."""
    return {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()
    }


def _read(source: Path) -> State:
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        loaded: Any = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, SafetensorError) as error:
        raise ServiceError(
            f"{source} is not a checkpoint that can be read safely: {str(error)[:200]}"
        ) from error
    state: Any = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ServiceError(f"{source} holds no state_dict of weights")
    return state


def _sync(folder: Path) -> None:
    """Sync to the disk before the rename, so that a power cut leaves no partial model."""
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
