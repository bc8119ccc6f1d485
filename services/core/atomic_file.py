"""Atomic writing of files."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from bigpe.services.core.errors import StoreError


@contextmanager
def partial_file(path: Path) -> Generator[Path]:
    """A temporary path, moved to `path` after the block. Raises StoreError if writing fails."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # if it was never created
            partial.unlink()
