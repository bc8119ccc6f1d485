"""The blob store: images as files named by the digest of their content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bigpe.services.core.errors import StoreError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".tmp-"


class BlobStore:
    """A folder of PNG files; equal content is stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Path of the image with that digest. Raises StoreError if it is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest[:80]!r} is not a picture's digest (64 hexadecimal digits)")
        return self.folder / digest[:2] / f"{digest}.png"

    def has(self, digest: str) -> bool:
        """Whether the image exists."""
        return self.path(digest).is_file()

    def put(self, png: bytes) -> str:
        """Store the bytes of a PNG file atomically; returns their sha256.

        Raises StoreError if the disk is full or the folder is read-only.
        """
        digest = hashlib.sha256(png).hexdigest()
        path = self.path(digest)
        if _made_young(path):
            return digest
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, png)
        except OSError as error:
            remedy = "make it writable, or choose another project folder"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = "free some space, then run `bigpe resume`"
            raise StoreError(f"cannot write {path}: {error.strerror}; {remedy}") from error
        return digest

    def read(self, digest: str) -> bytes:
        """The bytes of the PNG file. Raises StoreError if it is missing or damaged."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"the picture {path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the picture {path} is damaged; delete it and run `bigpe resume`")
        return data

    def digests(self) -> Iterator[str]:
        """The digests of all stored images."""
        return (path.stem for path in self.folder.glob("??/*.png") if _DIGEST.fullmatch(path.stem))

    def unfinished(self) -> Iterator[Path]:
        """Partial files of processes that are writing or were killed."""
        return self.folder.glob(f"??/{_UNFINISHED}*")


def _made_young(path: Path) -> bool:
    """Whether the image exists. Its file time is renewed, so `bigpe gc` keeps it."""
    try:
        os.utime(path)
    except PermissionError:
        pass  # the file belongs to another user
    except OSError:
        return False
    return path.is_file()


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
