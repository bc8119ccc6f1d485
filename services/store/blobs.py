"""Images as files named by the digest of their content."""

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
    """A folder of PNG files, named by the sha256 of their bytes. Equal content is stored once.

    Processes may share the folder, which `put` makes if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """The path of an image, whether it exists or not. StoreError if `digest` is none."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest[:80]!r} is not a picture's digest (64 hexadecimal digits)")
        return self.folder / digest[:2] / f"{digest}.png"

    def has(self, digest: str) -> bool:
        """Whether the image of that digest exists."""
        return self.path(digest).is_file()

    def put(self, png: bytes) -> str:
        """Store a PNG file; returns its digest. It is complete or absent, also after a crash.

        Raises:
            StoreError: The disk is full, or the folder cannot be written.
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
        """The bytes of the PNG file of a digest.

        Raises:
            StoreError: The file is missing, or its content does not match the digest.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"the picture {path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the picture {path} is damaged; delete it and run `bigpe resume`")
        return data

    def digests(self) -> Iterator[str]:
        """The digests of all images in the folder."""
        return (path.stem for path in self.folder.glob("??/*.png") if _DIGEST.fullmatch(path.stem))

    def unfinished(self) -> Iterator[Path]:
        """Files that a process is writing, or was writing when it was killed."""
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
