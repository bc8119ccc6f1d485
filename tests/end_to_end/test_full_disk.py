"""The disk fills up under pictures or database: the run names the remedy and loses nothing."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.fake_cli import start

from bigpe.services.core.errors import StoreError
from bigpe.testing.runs import repeated_calls, run_fake, transcript


def check_database(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "bigpe.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
async def test_a_full_disk_stops_the_run_and_space_resumes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    await run_fake(tmp_path / "whole")
    pictures = int(share * len(painted(tmp_path / "whole")))
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
    check_database(folder)
    assert transcript(folder) < transcript(tmp_path / "whole")
    assert len(painted(folder)) == pictures
    await run_fake(folder)
    assert transcript(folder) == transcript(tmp_path / "whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "p"
    process = start(folder, "run")
    _, err = process.communicate()
    assert process.returncode == 0, err
    return folder


def limits(whole: Path, kind: str) -> dict[str, int]:
    """Too little for all of such a run."""
    size = (whole / "bigpe.db").stat().st_size
    with closing(sqlite3.connect(whole / "bigpe.db")) as connection:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return {
        # The last pages are taken late: the library of prompts comes first.
        "pages": {"pages": 3 * size // 4 // page_bytes},
        "quota": {"largest_file": 3 * size // 4},
    }[kind]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("pages", "database or disk is full; free some space, then run `bigpe resume`"),
        ("quota", "disk I/O error; see to the disk (a quota?"),
    ],
)
def test_a_database_that_cannot_grow_stops_the_run_and_space_resumes_it(
    whole: Path, tmp_path: Path, kind: str, expected: str
) -> None:
    """Of a real process, by SQLite's own limit and by the system's."""
    folder = tmp_path / "p"
    process = start(folder, "run", **limits(whole, kind))
    _, err = process.communicate()
    assert process.returncode == 1 and expected in err and "Traceback" not in err, err
    check_database(folder)
    assert set() < transcript(folder) < transcript(whole)
    unkept = calls_without_answer_kept(folder)
    process = start(folder, "resume")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert transcript(folder) == transcript(whole)
    assert repeated_calls(folder) == unkept


def calls_without_answer_kept(folder: Path) -> int:
    """Of the calls that the fakes have heard: those in flight as the database stopped growing."""
    made = len((folder / "calls.jsonl").read_text().splitlines())
    kept = "SELECT count(*) FROM effect WHERE kind IN ('llm', 'render')"
    with closing(sqlite3.connect(folder / "bigpe.db")) as connection:
        return made - int(connection.execute(kept).fetchone()[0])


def painted(folder: Path) -> list[Path]:
    return list((folder / "images").rglob("*.png"))
