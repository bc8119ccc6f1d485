"""The disk fills up while pictures are written: the run names the remedy and loses nothing."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from support.runs import run_fake, transcript

from bigpe.services.errors import StoreError


@pytest.mark.parametrize("pictures", [0, 20, 60])
async def test_a_full_disk_stops_the_run_and_space_resumes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: int
) -> None:
    await run_fake(tmp_path / "whole")
    left, real = [pictures], os.fsync

    def until_full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    folder = tmp_path / "full"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", until_full)
        with pytest.raises(StoreError, match="free some space, then run `bigpe resume`"):
            await run_fake(folder)
    connection = sqlite3.connect(folder / "bigpe.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert transcript(folder) < transcript(tmp_path / "whole")
    assert len(list((folder / "images").rglob("*.png"))) == pictures
    await run_fake(folder)
    assert transcript(folder) == transcript(tmp_path / "whole")
