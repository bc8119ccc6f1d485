"""What a model folder is: a digest of its content, not of its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

from bigpe.services.models import cache_folder, file_sha256
from bigpe.services.values import Json, digest

MODEL_FILES = (".json", ".txt", ".safetensors", ".bin", ".pt", ".model")
LARGE = 64 * 1024 * 1024
"""Bytes from which a file's digest is remembered by its path, size and time."""


@runtime_checkable
class Composed(Protocol):
    """A renderer or scorer that tells what its fingerprint is a digest of."""

    @property
    def made_of(self) -> Json:
        """Empty until it was opened."""
        ...


def folder_fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of a model folder's files."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix in MODEL_FILES)
    return digest({str(f.relative_to(folder)): file_fingerprint(f) for f in files})


def file_fingerprint(path: Path) -> str:
    """sha256 of one file; a large one is read once, not each time."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return file_sha256(path)
    key = digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    note = cache_folder() / "digests" / f"{key}.json"
    if note.is_file():
        return str(json.loads(note.read_text("utf-8"))["sha256"])
    found = file_sha256(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_suffix(".tmp")
    temporary.write_text(json.dumps({"sha256": found}), "utf-8")
    temporary.replace(note)
    return found
