"""Fingerprints: digests of a model's content, and the check that a model stays the same."""

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
"""Size from which the digest of a file is cached by path, size and time, bytes."""
SHORT = 8
"""Displayed characters of a digest."""


@runtime_checkable
class Composed(Protocol):
    """A renderer or scorer that exposes the inputs of its fingerprint."""

    @property
    def fingerprint_inputs(self) -> Json:
        """The inputs of the fingerprint; empty before `open`."""
        ...


class SameModel:
    """Checks that all processes of a model have the fingerprint of the first process."""

    def __init__(self, name: str, products: str) -> None:
        """`products`: its results in the plural, capitalised, for error messages."""
        self._name = name
        self._products = products
        self.fingerprint = ""
        """The fingerprint of the first process; empty before its start."""
        self.fingerprint_inputs: Json = {}

    def vet(self, answer: Json) -> None:
        """Check the answer of a started process. Raises ConfigError if the model has changed."""
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
    """The differences of two models, one per line; the fingerprints if the inputs are unknown."""
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
    """sha256 of a file. The digest of a large file is cached."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return file_sha256(path)
    key = digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    note = cache_folder() / "digests" / f"{key}.json"
    if note.is_file():
        return str(json.loads(note.read_text("utf-8"))["sha256"])
    found = file_sha256(path)
    with suppress(StoreError), partial_file(note) as partial:
        partial.write_text(json.dumps({"sha256": found}), "utf-8")
    return found
