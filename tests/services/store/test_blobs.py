"""The picture store: content addresses, whole files or none."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from bigpe.services.core.errors import StoreError
from bigpe.services.store.blobs import BlobStore

PNG = b"\x89PNG\r\n\x1a\n and so on"


def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "images")
    digest = blobs.put(PNG)
    assert digest == hashlib.sha256(PNG).hexdigest()
    path = blobs.path(digest)
    assert path == tmp_path / "images" / digest[:2] / f"{digest}.png"
    before = path.stat()
    assert blobs.put(PNG) == digest
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns >= before.st_mtime_ns, "as young as a new one"
    other = blobs.put(b"another")
    assert set(blobs.digests()) == {digest, other}
    assert blobs.read(digest) == PNG
    assert blobs.has(digest)


@pytest.mark.parametrize(
    "wrong", ["", "abc", "../" * 21 + "x", "G" * 64, "A" * 64, "0" * 63 + "/", "0" * 64 + "\n"]
)
def test_only_digests_become_paths(tmp_path: Path, wrong: str) -> None:
    blobs = BlobStore(tmp_path)
    for use in (blobs.path, blobs.read, blobs.has):
        with pytest.raises(StoreError, match="not a picture's digest"):
            use(wrong)


def test_missing_and_damaged_pictures_are_told(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    digest = blobs.put(PNG)
    blobs.path(digest).write_bytes(PNG[:-1])
    with pytest.raises(StoreError, match="is damaged"):
        blobs.read(digest)
    blobs.path(digest).unlink()
    assert not blobs.has(digest)
    with pytest.raises(StoreError, match="cannot be read"):
        blobs.read(digest)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "make it writable")]
)
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def full(_: Any) -> None:
        raise OSError(number, os.strerror(number))

    blobs = BlobStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=remedy) as failed:
            blobs.put(PNG)
    assert str(tmp_path) in str(failed.value)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert list(blobs.digests()) == []
    assert blobs.has(blobs.put(PNG))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file")
    with pytest.raises(StoreError, match="choose another project folder"):
        BlobStore(tmp_path / "images").put(PNG)
