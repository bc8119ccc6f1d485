"""The store: commits together, fails alone, survives, refuses what it cannot read."""

import asyncio
import gc
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bigpe.services.core.errors import StoreError
from bigpe.services.store import migrations
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import QUERIES, Statement, Store, load_queries, many
from bigpe.services.store.paging import page


def run_row(name: str) -> Statement:
    return ("add_run", {"name": name, "created": 0.0, "config": "{}", "version": "0"})


def message_row(mid: str, run: str = "r", body: str = "{}") -> Statement:
    row = {"mid": mid, "type": "T", "sender": "s", "parent": "", "round": 0, "body": body}
    return many("add_messages", [row | {"ts": 0.0, "tokens": 0, "ms": 0.0}], run=run)


async def test_a_bad_transaction_fails_alone(tmp_path: Path) -> None:
    async with Store(tmp_path / "p.db") as store:
        await store.write([run_row("r")])
        good = [store.write([message_row(f"m{i}")]) for i in range(5)]
        bad = store.write([message_row("half"), message_row("x", run="no such run")])
        results = await asyncio.gather(*good, bad, return_exceptions=True)
        assert [type(r) for r in results] == [list] * 5 + [StoreError]
        mids = {row["mid"] for row in await page(store, "r")}
    assert mids == {f"m{i}" for i in range(5)}


@pytest.mark.parametrize(
    "statement",
    [
        message_row("odd", body="half a \ud83e"),
        ("add_run_seconds", {"name": "r", "seconds": 2**63}),
    ],
)
async def test_what_sqlite_cannot_hold_fails_alone(tmp_path: Path, statement: Statement) -> None:
    async with Store(tmp_path / "p.db") as store:
        await store.write([run_row("r")])
        odd, good = store.write([statement]), store.write([message_row("m")])
        results = await asyncio.wait_for(asyncio.gather(odd, good, return_exceptions=True), 60)
        assert [type(r) for r in results] == [StoreError, list]


async def test_a_message_said_again_shares_its_commit_with_new_ones(tmp_path: Path) -> None:
    async with Store(tmp_path / "p.db") as store:
        await store.write([run_row("r"), message_row("old")])
        counts = await asyncio.gather(*(store.write([message_row(m)]) for m in ("a", "old", "b")))
        assert counts == [[1], [0], [1]]
        assert [row["mid"] for row in await page(store, "r")] == ["old", "a", "b"]


async def test_a_lock_that_stays_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigpe.services.store.database.BUSY_TIMEOUT_MS", 0)
    tried: list[str] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *params: Any) -> sqlite3.Cursor:
            tried.append(sql)
            return super().execute(sql, *params)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Watched))
    async with Store(tmp_path / "p.db") as store:
        await store.write([run_row("r")])
        other = connect(tmp_path / "p.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        tried.clear()
        try:
            with pytest.raises(StoreError, match="database is locked"):
                await store.write([message_row("a")])
        finally:
            other.close()
        assert tried == ["BEGIN IMMEDIATE"]
        assert await store.write([message_row("b")]) == [1]


async def test_deliveries_are_handled_once_and_in_order(tmp_path: Path) -> None:
    async with Store(tmp_path / "p.db") as store:
        await store.write([run_row("r"), *(message_row(mid, body=mid) for mid in "abc")])
        deliveries = [{"actor": actor, "mid": mid} for mid in "abc" for actor in "xy"]
        await store.write([many("add_deliveries", deliveries, run="r")])
        for mids in ("b", "ca", "bab"):
            marks = [{"actor": actor, "mid": mid} for mid in mids for actor in "xy"]
            await store.write([many("mark_done", marks, run="r")])
        for actor in "xy":
            rows = await store.rows("handled_by", run="r", actor=actor, after=0)
            assert [row["body"] for row in rows] == ["b", "c", "a"]
            assert len(await store.rows("handled_by", run="r", actor=actor, after=2)) == 1
        assert await store.rows("open_deliveries", run="r") == []


async def test_what_is_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    async with Store(path) as store:
        await store.write([run_row("r")])
    async with Store(path, read_only=True) as store:
        assert (await store.rows("list_runs"))[0]["name"] == "r"
        with pytest.raises(StoreError, match="reading only"):
            await store.write([run_row("q")])


async def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    async with Store(path) as store:
        await store.write([run_row("r")])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            async with Store(path, read_only=True) as reader:
                assert await asyncio.wait_for(reader.row("get_run", name="r"), 60)
        finally:
            other.close()


async def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {migrations.VERSION + 1}")
    connection.execute("CREATE TABLE future(x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer bigpe"):
        async with Store(path):
            pass
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    path.write_text("these are not the tables you are looking for" * 50)
    with pytest.raises(StoreError, match="not a bigpe project"):
        async with Store(path):
            pass


async def test_a_missing_database_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="bigpe init"):
        async with Store(tmp_path / "p.db", read_only=True):
            pass
    assert not (tmp_path / "p.db").exists()


def test_queries_have_unique_names() -> None:
    assert "add_messages" in QUERIES
    with pytest.raises(StoreError, match="twice"):
        load_queries("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;")


def test_a_query_with_a_star_pages_both_ways() -> None:
    found = load_queries(
        "-- name: page_*\nSELECT {columns} FROM message WHERE seq {beyond} ORDER BY seq {direction}"
    )
    assert set(found) == {"page_after", "page_before"}
    assert found["page_after"].endswith("WHERE seq > :after ORDER BY seq ASC")
    assert found["page_before"].endswith("WHERE seq < :before ORDER BY seq DESC")
    assert found["page_after"].startswith("SELECT seq, mid,")


async def test_professional_prompts_are_searched_by_word_stem(tmp_path: Path) -> None:
    async with Store(tmp_path / "p.db") as store:
        for text in ("castles at dusk", "a teapot"):
            row = {"text": text, "source": "test", "license": "CC0-1.0"}
            await store.write([many("add_professionals", [row])])
        found = await store.rows("search_professional", query='"castle"', without="[]", limit=5)
    assert [r["text"] for r in found] == ["castles at dusk"]


async def test_an_effect_is_paid_once_even_by_concurrent_callers(tmp_path: Path) -> None:
    calls = 0

    async def call() -> dict[str, int]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return {"value": 7}

    async with Store(tmp_path / "p.db") as store:
        effects = CallCache(store)
        results = await asyncio.gather(*(effects.run("k", "llm", {}, call) for _ in range(9)))
        assert results == [{"value": 7}] * 9 and calls == 1
    async with Store(tmp_path / "p.db") as store:
        assert await CallCache(store).run("k", "llm", {}, call) == {"value": 7}
        assert calls == 1
        again = await CallCache(store).run("k", "llm", {}, call, valid=lambda r: r["value"] == 8)
        assert again == {"value": 7} and calls == 2


@pytest.mark.parametrize("ends", [True, False])
async def test_a_call_that_nobody_waits_for_any_more_ends_before_its_store(
    tmp_path: Path, ends: bool
) -> None:
    """As after a second Ctrl-C; and nothing is said of it."""
    messages: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, result: messages.append(result))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def call() -> dict[str, Any]:
        begun.set()
        await go_on.wait()
        raise RuntimeError("the queue is closed")

    async with Store(tmp_path / "p.db") as store:
        effects, before = CallCache(store), asyncio.all_tasks()
        waiting = asyncio.create_task(effects.run("k", "llm", {}, call))
        await begun.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        if ends:
            go_on.set()
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0)
        else:
            await effects.close()
        assert asyncio.all_tasks() == before
    del waiting  # its traceback keeps the call
    gc.collect()
    assert messages == []


async def test_a_failed_effect_is_not_remembered(tmp_path: Path) -> None:
    outcomes = iter([RuntimeError("down"), {"ok": True}])

    async def call() -> dict[str, bool]:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with Store(tmp_path / "p.db") as store:
        effects = CallCache(store)
        with pytest.raises(RuntimeError):
            await effects.run("k", "llm", {}, call)
        assert await effects.run("k", "llm", {}, call) == {"ok": True}


def test_an_opening_that_is_cancelled_ends_before_its_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    before = set(threading.enumerate())
    connect, started = sqlite3.connect, threading.Event()

    def slow(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        started.set()
        time.sleep(0.3)
        return connect(*args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", slow)

    async def cancelled() -> None:
        opening = asyncio.create_task(Store(tmp_path / "p.db").__aenter__())
        while not started.is_set():
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(cancelled())
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []
