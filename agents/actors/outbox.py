"""The outbox: entries that wait for their commit, in order; one transaction takes many entries.

A step is over once its entry is in the outbox, so AutoGen need not wait for the commit. The
entries of a transaction share three statements: a statement per row would pass the interpreter's
lock twice per row, and wait for it while the event loop is busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from bigpe.agents.messages.core import Message
from bigpe.services.core.errors import StoreError
from bigpe.services.store.database import Params, Statement, Store, many

MAX_GROUP = 1024
"""Maximum number of entries in a transaction."""
MAX_WAITING = 2048
"""Waiting entries beyond which `Outbox.room` blocks."""


class OutboxEntry(NamedTuple):
    """What one step or commit stores in one transaction."""

    sender: str
    outgoing: Sequence[Message]
    message_rows: Sequence[Params]
    deliveries: Sequence[Params]
    """The deliveries of `outgoing`."""
    marks: Sequence[Params]
    """The deliveries that this entry completes."""
    also: Sequence[Statement] = ()
    """Statements that run after the others."""
    committed: asyncio.Future[None] | None = None
    """Resolved on commit. If it is None, `outgoing` is published after the commit instead."""


class Outbox:
    """The waiting entries of one run, first in, first out."""

    def __init__(
        self,
        store: Store,
        run: str,
        committed: Callable[[OutboxEntry], Awaitable[None]],
        lost: Callable[[OutboxEntry, Exception], None],
    ) -> None:
        """Each entry goes to `committed`, or to `lost` if it or an earlier entry failed."""
        self._store = store
        self._run = run
        self._committed = committed
        self._lost = lost
        self._entries: deque[OutboxEntry] = deque()
        self._room = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self.repeated: set[str] = set()
        """Ids of messages that the transcript may have held before this process emitted them."""

    def put(self, entry: OutboxEntry) -> None:
        """Add an entry. Raises the failure of an earlier entry, after which nothing is stored."""
        if self._failure is not None:
            raise self._failure
        self._entries.append(entry)
        if self._work is None:
            self._work = asyncio.create_task(self._empty())

    async def room(self) -> None:
        """Wait until at most MAX_WAITING entries wait."""
        while len(self._entries) > MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    async def _empty(self) -> None:
        try:
            while self._entries:
                await self._gather()
                await self._commit(self._next())
                self._room.set()
        except Exception as error:  # noqa: BLE001 - every waiting entry gets it
            self._failure = error
            while self._entries:
                self._lost(self._entries.popleft(), error)
            self._room.set()
        self._work = None

    async def _gather(self) -> None:
        """Wait while each turn of the event loop adds entries: a large transaction is cheaper per
        entry."""
        before = 0
        while before < len(self._entries) < MAX_GROUP:
            before = len(self._entries)
            await asyncio.sleep(0)

    def _next(self) -> list[OutboxEntry]:
        """The longest group for one transaction. An entry with `also` ends it: those statements
        must not see later entries."""
        group: list[OutboxEntry] = []
        for entry in self._entries:
            group.append(entry)
            if entry.also or len(group) == MAX_GROUP:
                break
        return group

    async def _commit(self, group: Sequence[OutboxEntry]) -> None:
        try:
            await self._write(group)
        except StoreError:
            if len(group) == 1:
                raise
            for entry in group:  # the entries before the bad entry can be stored
                await self._commit([entry])
            return
        for entry in group:
            await self._committed(entry)
            self._entries.popleft()

    async def _write(self, group: Sequence[OutboxEntry]) -> None:
        rows = {
            "add_messages": [row for entry in group for row in entry.message_rows],
            "add_deliveries": [row for entry in group for row in entry.deliveries],
            "mark_done": [row for entry in group for row in entry.marks],
        }
        statements = [many(query, some, run=self._run) for query, some in rows.items() if some]
        statements += group[-1].also
        if not statements:
            return
        written = await self._store.write(statements)
        messages = rows["add_messages"]
        if messages and written[0] < len(messages):
            self.repeated.update(row["mid"] for row in messages)
