"""What waits to be committed: in order, and all that has come meanwhile in one transaction.

A step is over when its end is put in here, so nothing that AutoGen holds for it has to wait for
the commit. The entries of a transaction share three statements: one statement for each row would
hand the interpreter's lock over twice a row, and wait for it as long as the event loop is busy.
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
"""Entries that may share a transaction."""
MAX_WAITING = 2048
"""Entries that may wait before those who add more have to wait, too."""


class OutboxEntry(NamedTuple):
    """What is stored together, and what follows from it."""

    sender: str
    outgoing: Sequence[Message]
    message_rows: Sequence[Params]
    deliveries: Sequence[Params]
    """What `said` owes."""
    marks: Sequence[Params]
    """Deliveries that are done with this."""
    also: Sequence[Statement] = ()
    """Run after all that."""
    committed: asyncio.Future[None] | None = None
    """Tells who waits for the commit. If nobody does, `said` is published once it is there."""


class Outbox:
    """One run's entries on their way to the store, first in, first out."""

    def __init__(
        self,
        store: Store,
        run: str,
        committed: Callable[[OutboxEntry], Awaitable[None]],
        lost: Callable[[OutboxEntry, Exception], None],
    ) -> None:
        """Each entry is passed to `committed` or, if it or one before it failed, to `lost`."""
        self._store = store
        self._run = run
        self._committed = committed
        self._lost = lost
        self._entries: deque[OutboxEntry] = deque()
        self._room = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self.repeated: set[str] = set()
        """Messages that the transcript may have held already when this process said them."""

    def put(self, entry: OutboxEntry) -> None:
        """Add an entry. Raises the failure of an earlier one: after it nothing is stored."""
        if self._failure is not None:
            raise self._failure
        self._entries.append(entry)
        if self._work is None:
            self._work = asyncio.create_task(self._empty())

    async def room(self) -> None:
        """Returns once no more than MAX_WAITING entries wait."""
        while len(self._entries) > MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    async def _empty(self) -> None:
        try:
            while self._entries:
                await self._gather()
                await self._commit(self._next())
                self._room.set()
        except Exception as error:  # noqa: BLE001 - it goes to all who wait
            self._failure = error
            while self._entries:
                self._lost(self._entries.popleft(), error)
            self._room.set()
        self._work = None

    async def _gather(self) -> None:
        """Wait for as long as every turn of the event loop brings more: larger transactions cost
        less an entry, and a loop that is busy has no time for what follows a small one."""
        before = 0
        while before < len(self._entries) < MAX_GROUP:
            before = len(self._entries)
            await asyncio.sleep(0)

    def _next(self) -> list[OutboxEntry]:
        """The longest group that may be stored at once: what an entry runs after all else must
        not see the entries behind it."""
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
            for entry in group:  # those before the bad one are good
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
