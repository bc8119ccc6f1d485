"""Steps that end before they are stored: in order, delivered only then, none after a failed one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from autogen_core import MessageContext, SingleThreadedAgentRuntime, message_handler

from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import Message, RenderRequested, StopRequested
from bigpe.services.core.errors import StoreError
from bigpe.services.store.database import Statement, Store
from bigpe.services.store.paging import page

STEPS = 40


class SlowStore(Store):
    """Writes nothing until its gate is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, statements: Iterable[Statement]) -> list[int]:
        listed = list(statements)
        await self.gate.wait()
        return await super().write(listed)


class Painter(Actor):
    """Answers a request with a reason to stop, which the reader handles."""

    def __init__(self, journal: Journal) -> None:
        super().__init__("paints", journal)
        self.painted: list[str] = []

    @message_handler
    async def on_request(self, message: RenderRequested, ctx: MessageContext) -> None:
        await self.perform(message, self._paint)

    async def _paint(self, message: RenderRequested) -> Sequence[Message]:
        self.painted.append(message.mid)
        return [StopRequested.make(message, message.mid, reason=message.mid)]


class Reader(Actor):
    """Notes whether what it is told is in the database by then."""

    def __init__(self, journal: Journal, path: Path) -> None:
        super().__init__("reads", journal)
        self._path = path
        self.read: list[str] = []
        self.early: list[str] = []

    @message_handler
    async def on_stop(self, message: StopRequested, ctx: MessageContext) -> None:
        await self.perform(message, self._read)

    async def _read(self, message: StopRequested) -> Sequence[Message]:
        if not select(self._path, "SELECT 1 FROM message WHERE mid = ?", message.mid):
            self.early.append(message.reason)
        self.read.append(message.reason)
        return []


def select(path: Path, sql: str, *params: Any) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, params).fetchall()
    finally:
        connection.close()


def request(index: int) -> RenderRequested:
    return RenderRequested(
        mid=f"m{index:04}", run="r", parent="", round=1, purpose="naive", naive="x", prompt="x",
        seed=index,
    )  # fmt: skip


MIDS = [request(index).mid for index in range(STEPS)]


@asynccontextmanager
async def stage(
    folder: Path, requests: int
) -> AsyncGenerator[tuple[SlowStore, Journal, Painter, Reader]]:
    """Two actors, and requests on their way to the first."""
    store = SlowStore(folder / "p.db")
    async with store:
        run = {"name": "r", "created": 0.0, "config": "{}", "version": "0"}
        await store.write([("add_run", run)])
        journal = Journal(store, "r")
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        journal.attach(runtime, {"RenderRequested": ("painter",), "StopRequested": ("reader",)})
        painter, reader = Painter(journal), Reader(journal, store.path)
        await painter.join(runtime, "painter", ["RenderRequested"])
        await reader.join(runtime, "reader", ["StopRequested"])
        await journal.commit("", [request(index) for index in range(requests)])
        runtime.start()
        await journal.publish("", await journal.pending())
        yield store, journal, painter, reader
        await runtime.stop()
        if not journal.broken.done():
            journal.broken.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait, with an end, until the condition holds."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(wait(), 60)


async def test_what_was_said_is_there_before_it_is_delivered_and_in_order(tmp_path: Path) -> None:
    async with stage(tmp_path, STEPS) as (store, journal, painter, reader):
        await until(lambda: len(reader.read) == STEPS)
        await journal.drained()
        assert await journal.pending() == []
        messages = [row["body"] for row in await page(store, "r", type="StopRequested")]
        handled = await store.rows("handled_by", run="r", actor="reader", after=0)
    assert painter.painted == reader.read == MIDS
    assert reader.early == []
    assert messages == [row["body"] for row in handled] and len(messages) == STEPS


async def test_nothing_is_delivered_and_nothing_drained_before_the_commit(tmp_path: Path) -> None:
    async with stage(tmp_path, STEPS) as (store, journal, painter, reader):
        store.gate.clear()
        await until(lambda: len(painter.painted) == STEPS)
        drained = asyncio.create_task(journal.drained())
        await asyncio.sleep(0.02)
        assert reader.read == [] and not drained.done()
        store.gate.set()
        await asyncio.wait_for(drained, 60)
        await until(lambda: len(reader.read) == STEPS)
        await journal.drained()
    assert reader.early == []


async def test_steps_wait_when_too_much_waits_to_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = STEPS // 2
    monkeypatch.setattr("bigpe.agents.actors.outbox.MAX_WAITING", most)
    async with stage(tmp_path, STEPS) as (store, journal, painter, reader):
        store.gate.clear()
        await until(lambda: len(painter.painted) > most)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(painter.painted) == most + 1  # the last one found too many
        store.gate.set()
        await until(lambda: len(reader.read) == STEPS)
        await journal.drained()
        assert await journal.pending() == []


@pytest.mark.parametrize("bad", [0, 17, STEPS - 1])
async def test_after_a_step_that_cannot_be_stored_none_is(tmp_path: Path, bad: int) -> None:
    async with stage(tmp_path, STEPS) as (store, journal, painter, reader):
        store.gate.clear()
        await until(lambda: len(painter.painted) == STEPS)
        refuse(store.path, MIDS[bad])
        store.gate.set()
        with pytest.raises(StoreError, match="not this one"):
            await asyncio.wait_for(journal.broken, 60)
        await journal.drained()
        with pytest.raises(StoreError, match="not this one"):
            await journal.commit("", [request(STEPS)])
        messages = [row["parent"] for row in await page(store, "r", type="StopRequested")]
        pending = [
            message.mid for message in await journal.pending() if message.kind != "StopRequested"
        ]
    assert messages == MIDS[:bad] and pending == MIDS[bad:]
    assert reader.early == []


def refuse(path: Path, parent: str) -> None:
    """Let the database refuse what this message causes."""
    connection = sqlite3.connect(path)
    connection.execute(
        f"CREATE TRIGGER refuse BEFORE INSERT ON message WHEN new.parent = '{parent}' "
        "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    connection.close()
