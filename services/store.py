"""All state of a project in one SQLite file: transcript, outbox, memo of paid calls, prompts.

The transcript is also the outbox. A message and the deliveries it owes commit in one transaction
with the mark that its cause was handled; only then is it published. So whatever instant the
process dies at, the file says which deliveries are still open, and nothing else has to be known.

One writer connection a process. Writes queue up and share commits (group commit): each caller's
statements are a savepoint, so that a bad one fails alone. Readers use a connection of their own
and, because of WAL, neither block the writer nor wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import aiosqlite

from bigpe.services import migrations
from bigpe.services.errors import BigpeError, StoreError

Params = Mapping[str, Any]
Statement = tuple[str, Params]
Durability = Literal["normal", "full"]

BUSY_TIMEOUT_MS = 10_000
WAL_KEPT_BYTES = 16 * 1024 * 1024
"""To which the write-ahead log shrinks again after a reader stayed long and let it grow."""
MAX_GROUP = 256
"""Transactions that may share one commit."""
SEALED = frozenset({"evaluation", "evaluation_report", "sealed_effect", "vote"})
"""Tables of what is known of held-out prompts; whoever optimises may not even read them."""
UNWRITABLE = (sqlite3.Error, UnicodeError, OverflowError)
"""Failures of one statement: the database's, or a value that SQLite cannot hold."""


def load_queries(text: str) -> dict[str, str]:
    """The named statements of a queries file: `-- name: NAME` starts each."""
    queries: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        name, _, sql = block.partition("\n")
        if name.strip() in queries:
            raise StoreError(f"queries.sql names {name.strip()!r} twice")
        queries[name.strip()] = sql.strip()
    return queries


QUERIES = load_queries((files("bigpe.services") / "queries.sql").read_text("utf-8"))


class _Job:
    """Statements that must commit together, and who waits for that."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.statements = statements
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Store:
    """The project's database. Open it with `async with Store(path) as store`."""

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        durability: Durability = "normal",
        sealed: bool = False,
    ) -> None:
        """`sealed`: SQLite itself refuses this store's connections the tables of `SEALED`."""
        self.path = path
        self._read_only = read_only
        self._sealed = sealed
        self._durability: Durability = durability
        self._reader: aiosqlite.Connection | None = None
        self._writer: aiosqlite.Connection | None = None
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue()
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Store:
        try:
            if not self._read_only:
                self._writer = await self._connect(writable=True)
                await self._prepare(self._writer)
                self._pump = asyncio.create_task(self._commit_groups(self._writer))
            self._reader = await self._connect(writable=False)
            await self._migrate_for_reading(self._reader)
            await self._seal()
        except sqlite3.Error as error:
            await self.close()
            raise self._explain(error) from error
        except BigpeError:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what is queued and close; a second call does nothing."""
        if self._pump is not None:
            await self._jobs.put(None)
            await self._pump
            self._pump = None
        for connection in (self._reader, self._writer):
            if connection is not None:
                await connection.close()
        self._reader = self._writer = None

    # -- reading ------------------------------------------------------------------------------

    async def rows(self, query: str, /, **params: Any) -> list[sqlite3.Row]:
        """All rows of the named query."""
        if self._reader is None:
            raise StoreError(f"{self.path} is not open")
        try:
            return list(await self._reader.execute_fetchall(QUERIES[query], params))
        except sqlite3.Error as error:
            raise self._explain(error) from error

    async def one(self, query: str, /, **params: Any) -> sqlite3.Row | None:
        """The first row of the named query, or None."""
        found = await self.rows(query, **params)
        return found[0] if found else None

    # -- writing ------------------------------------------------------------------------------

    async def write(self, statements: Iterable[Statement]) -> None:
        """Run (query name, parameters) pairs in one transaction; returns once it is committed.

        Raises StoreError when it could not be committed; then none of it was.
        """
        if self._writer is None or self._pump is None:
            raise StoreError(f"{self.path} is open for reading only")
        if self._pump.done():
            raise StoreError(f"the writer of {self.path} has ended; open the project again")
        job = _Job(list(statements))
        await self._jobs.put(job)
        await job.done

    async def _commit_groups(self, connection: aiosqlite.Connection) -> None:
        ending = False
        while not ending:
            group = [await self._jobs.get()]
            while not self._jobs.empty() and len(group) < MAX_GROUP:
                group.append(self._jobs.get_nowait())
            ending = None in group
            await self._commit([job for job in group if job is not None], connection)

    async def _commit(self, jobs: list[_Job], connection: aiosqlite.Connection) -> None:
        if not jobs:
            return
        failed: dict[_Job, Exception] = {}
        try:
            await connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                error = await self._run_job(job, connection)
                if error is not None:
                    failed[job] = error
            await connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                await connection.rollback()
            failed = dict.fromkeys(jobs, error)
        for job in jobs:
            if job.done.done():
                continue
            if job in failed:
                job.done.set_exception(self._explain(failed[job]))
            else:
                job.done.set_result(None)

    async def _run_job(self, job: _Job, connection: aiosqlite.Connection) -> Exception | None:
        await connection.execute("SAVEPOINT job")
        try:
            for query, params in job.statements:
                await connection.execute(QUERIES[query], params)
        except UNWRITABLE as error:
            if not connection.in_transaction:
                raise  # SQLite gave up the whole transaction (disk full): nobody committed
            await connection.execute("ROLLBACK TO job")
            await connection.execute("RELEASE job")
            return error
        await connection.execute("RELEASE job")
        return None

    # -- opening ------------------------------------------------------------------------------

    async def _connect(self, *, writable: bool) -> aiosqlite.Connection:
        if writable:
            self._make_folder()
        mode = "rwc" if writable else "ro"
        if not writable and not self.path.exists():
            raise StoreError(
                f"there is no project database at {self.path}; start with `bigpe init`"
            )
        connection = await aiosqlite.connect(
            f"{self.path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None
        )
        connection.row_factory = sqlite3.Row
        await connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        return connection

    async def _seal(self) -> None:
        if self._sealed:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    await connection.set_authorizer(_refuse_sealed)

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder {self.path.parent}: {error.strerror}; "
                "choose a folder that you may write"
            ) from error

    async def _prepare(self, connection: aiosqlite.Connection) -> None:
        version = await self._check_version(connection)
        if version == migrations.VERSION:
            await self._tune(connection)
            return
        await self._tune(connection)
        await connection.execute("BEGIN IMMEDIATE")
        # Another process may have migrated between the look and the lock.
        version = await _user_version(connection)
        if 0 < version < migrations.VERSION:
            await asyncio.to_thread(self._back_up, version)
        for step in migrations.STEPS[version:]:
            for statement in step:
                await connection.execute(statement)
        await connection.execute(f"PRAGMA user_version = {max(version, migrations.VERSION)}")
        await connection.execute("COMMIT")

    async def _migrate_for_reading(self, reader: aiosqlite.Connection) -> None:
        """The queries are of the newest schema, so what an older bigpe wrote is migrated first."""
        if 0 < await self._check_version(reader) < migrations.VERSION:
            connection = await self._connect(writable=True)
            try:
                await self._prepare(connection)
            finally:
                await connection.close()

    def _back_up(self, version: int) -> None:
        """Copy what is committed, the write-ahead log included; whole or not at all."""
        copy = self.path.with_name(f"{self.path.name}.v{version}.bak")
        unfinished = copy.with_suffix(".tmp")
        try:
            unfinished.unlink(missing_ok=True)
            with (
                contextlib.closing(sqlite3.connect(self.path)) as source,
                contextlib.closing(sqlite3.connect(unfinished)) as target,
            ):
                source.backup(target)
            unfinished.replace(copy)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"cannot back up {self.path} before it is migrated: {error}; make room for "
                f"{copy.name} beside it. Nothing was changed"
            ) from error

    async def _tune(self, connection: aiosqlite.Connection) -> None:
        await connection.execute("PRAGMA journal_mode = WAL")
        level = "FULL" if self._durability == "full" else "NORMAL"
        await connection.execute(f"PRAGMA synchronous = {level}")
        await connection.execute("PRAGMA foreign_keys = ON")
        await connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")

    async def _check_version(self, connection: aiosqlite.Connection) -> int:
        version = await _user_version(connection)
        if version > migrations.VERSION:
            raise StoreError(
                f"{self.path} was written by a newer bigpe (schema {version}, this one knows "
                f"{migrations.VERSION}); install that version to use it. Nothing was changed."
            )
        return version

    def _explain(self, error: Exception) -> StoreError:
        text = str(error)
        remedy = {
            "database or disk is full": "free some space, then run `bigpe resume`",
            "attempt to write a readonly database": "make the file and its folder writable",
            "unable to open database file": "check that the folder exists and may be written",
            "database is locked": "another program holds the file; close it and try again",
            "file is not a database": "this is not a bigpe project; choose another folder",
            "database disk image is malformed": "restore the file from a backup",
        }.get(text, "nothing of this write was kept")
        if self._sealed and ("prohibited" in text or "not authorized" in text):
            remedy = "what is known of held-out prompts is not for a run to see"
        return StoreError(f"{self.path}: {text}; {remedy}")


def _refuse_sealed(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """SQLite's authorizer: no statement may name a sealed table, nor open a second way in."""
    refused = {first, second} & SEALED or action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


async def _user_version(connection: aiosqlite.Connection) -> int:
    rows = list(await connection.execute_fetchall("PRAGMA user_version"))
    return int(rows[0][0])
