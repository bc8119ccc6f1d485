"""The next release migrates a project, backed up first; a project of 0.1.0 is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chaos.next_release import ROWS, THIS_VERSION, next_release
from support.paths import import_path

from bigpe.services.core.errors import ForeignDatabaseError, StoreError
from bigpe.services.store import migrations
from bigpe.services.store.database import Store
from bigpe.testing.runs import open_fake, run_fake, transcript

RUN: dict[str, Any] = {
    "run": {"rounds": 3, "batch_size": 2, "concurrency": 2, "pilot_prompts": 2, "seed": 5}
}
KILLED_RUN = """
import asyncio, os, sys
from pathlib import Path
from bigpe.testing.runs import open_fake
from test_upgrades import RUN

async def main():
    async with open_fake(Path(sys.argv[1]), RUN, delay_s=0.01, name="half") as session:
        messages = session.run()
        for _ in range(30):
            await anext(messages)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""
MIGRATION = """
import asyncio, sys
from pathlib import Path
from bigpe.services.store.database import Store
from chaos.next_release import next_release

async def main():
    print("opening", flush=True)
    async with Store(Path(sys.argv[1])):
        print("open", flush=True)

with next_release():
    asyncio.run(main())
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": import_path(Path(__file__).parent)}


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def backups(folder: Path) -> list[Path]:
    return list(folder.glob("*.bak"))


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run `done`, and a run `half` whose process was killed."""
    folder = tmp_path_factory.mktemp("unfinished")
    asyncio.run(run_fake(folder, RUN, name="done"))
    command = [sys.executable, "-P", "-c", KILLED_RUN, str(folder)]
    assert subprocess.run(command, env=ENVIRONMENT, check=False).returncode == -signal.SIGKILL
    assert (folder / "bigpe.db-wal").stat().st_size
    return folder


@pytest.fixture
def project(unfinished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(unfinished, tmp_path / "p")


async def test_a_half_done_run_goes_on_under_the_next_release(project: Path) -> None:
    database = project / "bigpe.db"
    before = transcript(project)
    with next_release():
        async with open_fake(project, RUN, name="half") as session:
            async for _ in session.run():
                pass
            assert session.complete
    assert query(database, "PRAGMA user_version") == [(THIS_VERSION + 1,)]
    assert query(database, "PRAGMA application_id") == [(migrations.APPLICATION_ID,)]
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert before < transcript(project)
    (backup,) = backups(project)
    assert backup.name == f"bigpe.db.v{THIS_VERSION}.bak"
    assert query(backup, "PRAGMA user_version") == [(THIS_VERSION,)]
    assert set(query(backup, "SELECT mid, body FROM message")) == before
    assert query(backup, "SELECT name FROM run ORDER BY name") == [("done",), ("half",)]


async def test_a_project_of_this_schema_is_not_backed_up(project: Path) -> None:
    async with Store(project / "bigpe.db"):
        pass
    assert backups(project) == []


async def test_a_reader_migrates_too(project: Path) -> None:
    database = project / "bigpe.db"
    with next_release():
        async with Store(database, read_only=True) as store:
            assert {row["name"] for row in await store.rows("list_runs")} == {"done", "half"}
            with pytest.raises(StoreError):
                await store.write([])
    assert query(database, "PRAGMA user_version") == [(THIS_VERSION + 1,)]


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2, 0.5])
def test_a_kill_during_migration_leaves_one_schema_or_the_other(
    project: Path, after_s: float
) -> None:
    before = transcript(project)
    database = project / "bigpe.db"
    command = [sys.executable, "-P", "-c", MIGRATION, str(database)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"opening\n"
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    version = query(database, "PRAGMA user_version")[0][0]
    made = query(database, "SELECT count(*) FROM sqlite_master WHERE name = 'chaos'")
    columns = {row[1] for row in query(database, "PRAGMA table_info(run)")}
    new = version == THIS_VERSION + 1
    assert (made == [(1,)], "chaos" in columns) == (new, new)
    assert transcript(project) == before
    done = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    assert done.stdout == b"opening\nopen\n"
    assert query(database, "SELECT count(*) FROM chaos") == [(ROWS,)]
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert not list(project.glob("*.tmp"))


async def test_a_backup_that_cannot_be_written_changes_nothing(project: Path) -> None:
    database = project / "bigpe.db"
    (project / f"bigpe.db.v{THIS_VERSION}.tmp").mkdir()
    with next_release(), pytest.raises(StoreError, match="back up"):
        async with Store(database):
            pass
    assert query(database, "PRAGMA user_version") == [(THIS_VERSION,)]


def of_release_0_1(database: Path, schema: int) -> bytes:
    """The start of a database of 0.1.0, whose schemas had the numbers 1 to 7."""
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE run(name TEXT PRIMARY KEY) STRICT")
    connection.execute(f"PRAGMA user_version = {schema}")
    connection.commit()
    connection.close()
    return database.read_bytes()


@pytest.mark.parametrize("schema", [0, 1, 7])
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_database_of_0_1_0_is_refused_and_unchanged(
    schema: int, read_only: bool, tmp_path: Path
) -> None:
    database = tmp_path / "bigpe.db"
    before = of_release_0_1(database, schema)
    with pytest.raises(ForeignDatabaseError, match="bigpe init"):
        async with Store(database, read_only=read_only):
            pass
    assert database.read_bytes() == before
    assert backups(tmp_path) == []
