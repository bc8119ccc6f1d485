"""`bigpe gc` removes what nothing refers to, and nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bigpe.runtime.project.garbage_collection import sweep
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import RunLockedError
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Store
from bigpe.testing.runs import open_fake, run_fake

CONFIG = {"run": {"rounds": 2, "batch_size": 2, "pilot_prompts": 2}}
WITHOUT_PICTURES = {"llm_server", "payment", "run", "delivery", "professional", "tally"}
WITHOUT_PICTURES |= {"discarded_answer", "fresh_answers"}
"""Tables that name no picture; `bigpe gc` must read every other one."""
READ = {"message", "effect", "sealed_effect", "evaluation", "evaluation_report", "snapshot"}
READ |= {"vote"}


def age(path: Path, hours: float) -> None:
    then = path.stat().st_mtime - 3600 * hours
    os.utime(path, (then, then))


def bigpe_gc(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "bigpe", "gc", "-p", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_only_what_nothing_refers_to_goes(tmp_path: Path) -> None:
    await run_fake(tmp_path, CONFIG)
    blobs = BlobStore(Project(tmp_path).images)
    used = set(blobs.digests())
    orphan = blobs.path(blobs.put(b"a picture of a call that was killed"))
    half = orphan.parent / ".tmp-abc"
    half.write_bytes(b"half")
    for path in (orphan, half, *map(blobs.path, used)):
        age(path, 2)
    young = blobs.path(blobs.put(b"a picture of a call in flight"))
    output = json.loads(bigpe_gc(tmp_path, "--dry-run", "--json").stdout)
    wanted = {"pictures": 1, "unfinished": 1, "bytes": 39, "in_use": len(used), "young": 1}
    assert output == wanted | {"dry_run": True}
    assert orphan.exists() and half.exists()
    messages = bigpe_gc(tmp_path).stdout
    assert f"removed 1 pictures and 1 unfinished files (0.0 MB); {len(used)} pictures" in messages
    assert "1 more are younger than 1 h and were spared" in messages
    assert not orphan.exists() and not half.exists()
    assert set(blobs.digests()) == used | {young.stem}
    bigpe_gc(tmp_path, "--older-than", "0")
    assert set(blobs.digests()) == used


async def test_an_old_orphan_that_is_wanted_again_is_spared(tmp_path: Path) -> None:
    await run_fake(tmp_path, CONFIG)
    blobs = BlobStore(Project(tmp_path).images)
    path = blobs.path(blobs.put(b"painted again"))
    age(path, 2)
    blobs.put(b"painted again")
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        assert (await sweep(Project(tmp_path), store)).pictures == 0
    assert path.exists()


async def test_young_files_are_not_touched_while_a_run_is_written(tmp_path: Path) -> None:
    async with open_fake(tmp_path, CONFIG):
        refused = bigpe_gc(tmp_path, "--older-than", "0")
        assert refused.returncode == 1
        assert f"run 'main' is being written by process {os.getpid()}" in refused.stderr
        assert bigpe_gc(tmp_path).returncode == 0
        async with Store(tmp_path / "bigpe.db", read_only=True) as store:
            with pytest.raises(RunLockedError, match="bigpe stop main"):
                await sweep(Project(tmp_path), store, older_than_s=60)


async def test_every_table_is_known_to_it(tmp_path: Path) -> None:
    async with Store(tmp_path / "bigpe.db"):
        pass
    connection = sqlite3.connect(tmp_path / "bigpe.db")
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    tables = {name for (name,) in rows if not name.startswith(("sqlite_", "professional_fts"))}
    assert tables == READ | WITHOUT_PICTURES, (
        "runtime/project/garbage_collection.py must read what names pictures"
    )
