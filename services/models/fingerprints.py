"""What a model is: a digest of its content, not of its name; and that it stays what it was."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import ConfigError, StoreError
from bigpe.services.core.values import Json, digest, flat_settings
from bigpe.services.models.downloads import cache_folder, file_sha256

MODEL_FILES = (".json", ".txt", ".safetensors", ".bin", ".pt", ".model")
LARGE = 64 * 1024 * 1024
"""Bytes from which a file's digest is remembered by its path, size and time."""
SHORT = 8
"""Characters of a digest that people are shown."""


@runtime_checkable
class Composed(Protocol):
    """A renderer or scorer that tells what its fingerprint is a digest of."""

    @property
    def fingerprint_inputs(self) -> Json:
        """Empty until it was opened."""
        ...


class SameModel:
    """What a model is, as its first process told; the processes after it must be the same."""

    def __init__(self, name: str, products: str) -> None:
        """`products`: what is made by it, in the plural, as a sentence begins."""
        self._name = name
        self._products = products
        self.fingerprint = ""
        """Empty until it is told."""
        self.fingerprint_inputs: Json = {}

    def vet(self, answer: Json) -> None:
        """Of a process that was started. ConfigError when it has become another model."""
        fingerprint = str(answer["fingerprint"])
        inputs: Json = answer.get("fingerprint_inputs", {})
        if not self.fingerprint:
            self.fingerprint, self.fingerprint_inputs = fingerprint, inputs
        elif fingerprint != self.fingerprint:
            changed = differences(self.fingerprint, self.fingerprint_inputs, fingerprint, inputs)
            raise ConfigError(
                f"the {self._name} was started again and is another one now:\n"
                f"{changed}\n"
                f"{self._products} of the two could not be compared. Restore what was changed, "
                "then run `bigpe resume`"
            )


def differences(before: str, inputs_before: Json, now: str, inputs_now: Json) -> str:
    """What two models differ in, a line each: their fingerprints, where no more was told."""
    old, new = flat_settings(inputs_before), flat_settings(inputs_now)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if not (old and new and changed):
        return f"  fingerprint: {before[:SHORT]} -> {now[:SHORT]}"
    return "\n".join(
        f"  {key}: {_shown(old.get(key))} -> {_shown(new.get(key))}" for key in changed
    )


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value):
        return value[:SHORT]
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


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
    with suppress(StoreError), partial_file(note) as partial:  # else it is read again next time
        partial.write_text(json.dumps({"sha256": found}), "utf-8")
    return found
