"""Others at the same project: a second writer, readers, a program that holds the database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.paths import import_path

from bigpe.services.core.errors import StoreError
from bigpe.testing.runs import CONFIG, open_fake, run_fake, transcript

SMALL = {"run": {**CONFIG["run"], "rounds": 4}}
LATEST_S = 240.0

READS = """
import asyncio, sys
from pathlib import Path
from bigpe.services.store.paging import page
from bigpe.services.store.database import Store

async def main():
    async with Store(Path(sys.argv[1]), read_only=True) as store:
        print("reading", flush=True)
        while True:
            await page(store, "main", limit=1000)
            kinds = [row["type"] for row in await store.rows("count_messages", run="main")]
            if "RunStopped" in kinds:
                break
    print("the end was seen", flush=True)

asyncio.run(main())
"""
HOLDS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("SELECT count(*) FROM message").fetchall()
print("held", flush=True)
sys.stdin.readline()
"""


def start(program: str, *words: str) -> subprocess.Popen[str]:
    """A Python process, once it has said its first line."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": import_path()},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def end(process: subprocess.Popen[str]) -> str:
    return process.communicate("\n", timeout=LATEST_S)[0]


def wal(folder: Path) -> int:
    return (folder / "bigpe.db-wal").stat().st_size


async def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "bigpe", "resume", "-p", str(tmp_path)]
    async with open_fake(tmp_path, SMALL) as session:
        before = transcript(tmp_path)
        refused = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert f"run 'main' is being written by process {os.getpid()}" in refused.stderr
        assert "bigpe stop main" in refused.stderr
        assert transcript(tmp_path) == before
        async for _ in session.run():
            pass
        assert session.complete


async def test_a_busy_reader_neither_holds_a_run_up_nor_lets_its_log_grow(tmp_path: Path) -> None:
    largest = 0
    async with open_fake(tmp_path, SMALL) as session:
        reader = start(READS, str(tmp_path / "bigpe.db"))
        async for _ in session.run():
            largest = max(largest, wal(tmp_path))
        assert session.complete
        assert end(reader) == "the end was seen\n"
    await run_fake(tmp_path / "alone", SMALL)
    assert transcript(tmp_path) == transcript(tmp_path / "alone")
    # SQLite writes the log back every 1000 pages of 4 kB; readers with short transactions let it.
    assert largest < 3 * 1000 * 4096


async def test_a_reader_that_stays_costs_room_only_while_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten `sqlite3` shell in a transaction, say."""
    monkeypatch.setattr("bigpe.services.store.database.WAL_KEPT_BYTES", 200_000)
    sizes: list[int] = []
    async with open_fake(tmp_path, {"run": {**CONFIG["run"], "rounds": 30}}) as session:
        shell = start(HOLDS, str(tmp_path / "bigpe.db"), "BEGIN")
        async for message in session.run():
            sizes.append(wal(tmp_path))
            if message.round == 15 and shell.poll() is None:
                end(shell)
        assert session.complete
    assert max(sizes) > 1000 * 4096, "it grew past where SQLite writes it back"
    assert sizes[-1] < max(sizes) / 2
    assert not (tmp_path / "bigpe.db-wal").exists()


async def test_a_lock_that_is_freed_in_time_is_waited_for(tmp_path: Path) -> None:
    await run_fake(tmp_path / "alone", SMALL)
    async with open_fake(tmp_path / "p", SMALL) as session:
        holder = start(HOLDS, str(tmp_path / "p" / "bigpe.db"), "BEGIN IMMEDIATE")

        async def let_go() -> None:
            await asyncio.sleep(0.5)  # the fault itself: the run's first write waits so long
            await asyncio.to_thread(end, holder)

        letting_go = asyncio.create_task(let_go())
        async for _ in session.run():
            assert letting_go.done(), "nothing is written under another's lock"
        await letting_go
        assert session.complete
    assert transcript(tmp_path / "p") == transcript(tmp_path / "alone")


async def test_a_lock_that_stays_stops_the_run_which_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigpe.services.store.database.BUSY_TIMEOUT_MS", 200)
    await run_fake(tmp_path / "alone", SMALL)
    folder = tmp_path / "p"
    holder: subprocess.Popen[str] | None = None
    with pytest.raises(StoreError, match="database is locked; another program holds the file"):
        async with open_fake(folder, SMALL) as session:
            count = 0
            async for _ in session.run():
                count += 1
                if count == 20:
                    # In a thread: the event loop has to end a transaction that is open.
                    holder = await asyncio.to_thread(
                        start, HOLDS, str(folder / "bigpe.db"), "BEGIN IMMEDIATE"
                    )
    assert holder is not None
    assert transcript(folder) < transcript(tmp_path / "alone")
    end(holder)
    await run_fake(folder, SMALL)
    assert transcript(folder) == transcript(tmp_path / "alone")
    connection = sqlite3.connect(folder / "bigpe.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def jumping_clock(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> Callable[[], float]:
    """`time.time` goes back by `jump_s` at every tenth look."""
    real, looks = time.time, 0

    def look() -> float:
        nonlocal looks
        looks += 1
        return real() - jump_s * (looks // 10)

    monkeypatch.setattr(time, "time", look)
    return look


async def test_a_clock_that_jumps_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_fake(tmp_path / "alone", SMALL)
    folder = tmp_path / "p"
    with monkeypatch.context() as patch:
        jumping_clock(patch, 3600.0)
        async with open_fake(folder, SMALL) as session:
            async for message in session.run():
                if message.round == 2:
                    session.pause()
        await run_fake(folder, SMALL)
    assert transcript(folder) == transcript(tmp_path / "alone")
    connection = sqlite3.connect(folder / "bigpe.db")
    stamps = [ts for (ts,) in connection.execute("SELECT ts FROM message ORDER BY seq")]
    negative = connection.execute("SELECT count(*) FROM message WHERE ms < 0").fetchone()
    connection.close()
    assert stamps != sorted(stamps), "the clock did jump"
    assert negative == (0,), "durations are of another clock"
