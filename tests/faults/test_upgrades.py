"""Projects of every released schema open, backed up first, and their half-done runs go on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.old_projects import HALF, known, runs_of, unpack
from support.paths import import_path

from bigpe.services import migrations
from bigpe.services.errors import StoreError
from bigpe.services.store import Store
from bigpe.testing.runs import open_fake, transcript

SLOW_STEP = (
    "CREATE TABLE migrated_slowly(n INTEGER)",
    # Some hundred milliseconds inside the transaction, for the kill to fall into.
    "INSERT INTO migrated_slowly WITH RECURSIVE c(n) AS "
    "(SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1500000) SELECT n FROM c",
    "ALTER TABLE run ADD COLUMN migrated TEXT NOT NULL DEFAULT 'yes'",
)
MIGRATES = """
import asyncio, sys
from pathlib import Path
from bigpe.services import migrations, store
from test_upgrades import SLOW_STEP

migrations.STEPS = (*migrations.STEPS, SLOW_STEP)
migrations.VERSION = len(migrations.STEPS)

async def main():
    print("opening", flush=True)
    async with store.Store(Path(sys.argv[1])):
        print("open", flush=True)

asyncio.run(main())
"""


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("schema", known())
async def test_a_project_of_that_schema_goes_on(schema: int, tmp_path: Path) -> None:
    folder = unpack(schema, tmp_path / "p")
    database = folder / "bigpe.db"
    before = transcript(folder)
    assert query(database, "PRAGMA user_version") == [(schema,)]
    async with open_fake(folder, HALF, name="half") as session:
        async for _ in session.run():
            pass
        assert session.complete
    assert query(database, "PRAGMA user_version") == [(migrations.VERSION,)]
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert before < transcript(folder)
    backups = list(folder.glob("*.bak"))
    if schema == migrations.VERSION:
        assert backups == []
        return
    assert [path.name for path in backups] == [f"bigpe.db.v{schema}.bak"]
    assert query(backups[0], "PRAGMA user_version") == [(schema,)]
    assert set(query(backups[0], "SELECT mid, body FROM message")) == before
    assert runs_of(backups[0]) == ["done", "half"]


@pytest.mark.parametrize("schema", known())
async def test_a_reader_migrates_too(schema: int, tmp_path: Path) -> None:
    database = unpack(schema, tmp_path / "p") / "bigpe.db"
    async with Store(database, read_only=True) as store:
        assert [row["name"] for row in await store.rows("list_runs")] == ["done", "half"]
        with pytest.raises(StoreError, match="reading only"):
            await store.write([])
    assert query(database, "PRAGMA user_version") == [(migrations.VERSION,)]


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2, 0.5])
def test_a_kill_during_migration_leaves_one_schema_or_the_other(
    tmp_path: Path, after_s: float
) -> None:
    folder = unpack(max(known()), tmp_path / "p")
    before = transcript(folder)
    database = folder / "bigpe.db"
    environment = {**os.environ, "PYTHONPATH": import_path(Path(__file__).parent)}
    command = [sys.executable, "-P", "-c", MIGRATES, str(database)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"opening\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    version = query(database, "PRAGMA user_version")[0][0]
    made = query(database, "SELECT count(*) FROM sqlite_master WHERE name = 'migrated_slowly'")
    columns = {row[1] for row in query(database, "PRAGMA table_info(run)")}
    new = version == migrations.VERSION + 1
    assert (made == [(1,)], "migrated" in columns) == (new, new)
    assert transcript(folder) == before
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert done.stdout == b"opening\nopen\n"
    assert query(database, "SELECT count(*) FROM migrated_slowly") == [(1_500_000,)]
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert not list(folder.glob("*.tmp"))


async def test_a_backup_that_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpack(max(known()), tmp_path / "p")
    database = folder / "bigpe.db"
    version = query(database, "PRAGMA user_version")
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, SLOW_STEP))
    monkeypatch.setattr(migrations, "VERSION", len(migrations.STEPS))
    (folder / f"bigpe.db.v{version[0][0]}.tmp").mkdir()
    with pytest.raises(StoreError, match="back up"):
        async with Store(database):
            pass
    assert query(database, "PRAGMA user_version") == version


def test_the_released_schemas_are_recorded_each_with_a_run_that_has_not_ended(
    tmp_path: Path,
) -> None:
    """Else resuming it would prove nothing."""
    assert 1 in known()
    for schema in known():
        database = unpack(schema, tmp_path / str(schema)) / "bigpe.db"
        states = dict(query(database, "SELECT name, state FROM run"))
        assert states == {"done": "complete", "half": "running"}
