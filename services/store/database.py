"""All state of a project in one SQLite file: transcript, deliveries, call cache, prompts.

One transaction stores a message, its open deliveries and the mark that its cause was handled. The
message is published after the commit. So the file alone determines how to resume, whenever the
process dies.

SQLite is reached through aiosqlite only. The writer connection commits the writes that wait as one
group. When a group fails, each write of it runs again in a savepoint, so that a bad write fails
alone. The reader connection neither blocks the writer nor waits for it, because of WAL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import aiosqlite

from bigpe.services.core.errors import ForeignDatabaseError, StoreError
from bigpe.services.store import migrations
from bigpe.services.store.batching import GroupQueue

Params = Mapping[str, Any]
Statement = tuple[str, Params]
Durability = Literal["normal", "full"]

BUSY_TIMEOUT_MS = 10_000
WAL_KEPT_BYTES = 16 * 1024 * 1024
"""Size to which the write-ahead log is truncated after a long read let it grow."""
MAX_GROUP = 256
"""Maximum number of transactions per commit."""
MESSAGE_COLUMNS = "seq, mid, type, sender, parent, round, body, ts, tokens, ms"
PAGE_WAYS = {
    "after": {"beyond": "> :after", "direction": "ASC"},
    "before": {"beyond": "< :before", "direction": "DESC"},
}
"""The two variants of a query with `*` in its name: pages forward and backward."""
SEALED = frozenset({"evaluation", "evaluation_report", "sealed_effect", "vote"})
"""Tables of results on held-out prompts. A run may not even read them."""
UNWRITABLE = (sqlite3.Error, UnicodeError, OverflowError)
"""Exceptions of one statement: errors of the database, and values that SQLite cannot hold."""


def load_queries(text: str) -> dict[str, str]:
    """The named statements of a queries file, expanded as the head of queries.sql describes."""
    queries: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        pattern, _, sql = block.partition("\n")
        for way, words in PAGE_WAYS.items():
            name = pattern.strip().replace("*", way)
            if name in queries:
                raise StoreError(f"queries.sql names {name!r} twice")
            queries[name] = sql.strip().format(columns=MESSAGE_COLUMNS, **words)
            if "*" not in pattern:
                break
    return queries


QUERIES = load_queries((files("bigpe.services.store") / "queries.sql").read_text("utf-8"))


def many(query: str, rows: Sequence[Params], **shared: object) -> Statement:
    """One statement for all rows, passed as JSON; `shared` parameters are equal for all rows."""
    # No ASCII escapes: SQLite must refuse text that it cannot hold.
    return (query, {"rows": json.dumps(rows, ensure_ascii=False), **shared})


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
        """`sealed`: SQLite denies this store access to the tables of `SEALED`."""
        self.path = path
        self._read_only = read_only
        self._sealed = sealed
        self._durability: Durability = durability
        self._reader: aiosqlite.Connection | None = None
        self._writes: GroupQueue[Sequence[Statement], list[int]] | None = None
        self._opened = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Store:
        async with contextlib.AsyncExitStack() as opened:
            try:
                await self._open(opened)
            except sqlite3.Error as error:
                raise self._explain(error) from error
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit the writes in the queue and close; a second call does nothing."""
        self._reader = self._writes = None
        await self._opened.aclose()

    # -- reading ------------------------------------------------------------------------------

    async def rows(self, query: str, /, **params: Any) -> list[sqlite3.Row]:
        """All rows of the named query."""
        if self._reader is None:
            raise StoreError(f"{self.path} is not open")
        try:
            return list(await self._reader.execute_fetchall(QUERIES[query], params))
        except UNWRITABLE as error:
            raise self._explain(error) from error

    async def row(self, query: str, /, **params: Any) -> sqlite3.Row | None:
        """The first row of the named query, or None."""
        found = await self.rows(query, **params)
        return found[0] if found else None

    # -- writing ------------------------------------------------------------------------------

    async def write(self, statements: Iterable[Statement]) -> list[int]:
        """Run (query name, parameters) pairs in one transaction.

        Returns the number of changed rows of each, after the commit. Raises StoreError if nothing
        was committed.
        """
        if self._writes is None:
            why = "open for reading only" if self._read_only else "not open"
            raise StoreError(f"{self.path} is {why}")
        return await self._writes.submit(list(statements))

    async def _commit(
        self, writer: aiosqlite.Connection, jobs: Sequence[Sequence[Statement]]
    ) -> Sequence[list[int] | Exception]:
        """Run the jobs in one transaction. When one fails, run each in a savepoint."""
        for run_jobs in (_run_together, self._run_apart):
            try:
                await writer.execute("BEGIN IMMEDIATE")
            except UNWRITABLE as error:
                # No single job is the cause, and a retry would wait for the lock again.
                return [self._explain(error) for _ in jobs]
            try:
                answers = await run_jobs(writer, jobs)
                await writer.execute("COMMIT")
                return answers
            except UNWRITABLE as error:
                if writer.in_transaction:
                    await writer.rollback()
                failure = error
        return [self._explain(failure) for _ in jobs]

    async def _run_apart(
        self, writer: aiosqlite.Connection, jobs: Sequence[Sequence[Statement]]
    ) -> Sequence[list[int] | Exception]:
        answers: list[list[int] | Exception] = []
        for job in jobs:
            await writer.execute("SAVEPOINT job")
            try:
                answers += await _run_together(writer, [job])
            except UNWRITABLE as error:
                if not writer.in_transaction:
                    raise  # SQLite rolled the transaction back (disk full): all jobs failed
                await writer.execute("ROLLBACK TO job")
                answers.append(self._explain(error))
            await writer.execute("RELEASE job")
        return answers

    # -- opening ------------------------------------------------------------------------------

    async def _open(self, opened: contextlib.AsyncExitStack) -> None:
        writer = None if self._read_only else await self._connect(opened, writable=True)
        if writer is not None:
            await self._prepare(writer)
        reader = await self._connect(opened, writable=False)
        await self._migrate_for_reading(reader)
        if self._sealed:
            for connection in (reader, writer):
                if connection is not None:
                    await connection.set_authorizer(_refuse_sealed)
        if writer is not None:
            self._writes = GroupQueue(partial(self._commit, writer), max_group=MAX_GROUP)
            opened.push_async_callback(self._writes.close)
        self._reader = reader

    async def _connect(
        self, opened: contextlib.AsyncExitStack, *, writable: bool
    ) -> aiosqlite.Connection:
        if writable:
            self._make_folder()
        mode = "rwc" if writable else "ro"
        if not writable and not self.path.exists():
            raise StoreError(
                f"there is no project database at {self.path}; start with `bigpe init`"
            )
        connection = await opened.enter_async_context(
            _connection(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=BUSY_TIMEOUT_MS / 1000,
            )
        )
        connection.row_factory = sqlite3.Row
        return connection

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
        await self._tune(connection)
        if version == migrations.VERSION:
            return
        await connection.execute("BEGIN IMMEDIATE")
        # Another process may have migrated before the lock was taken.
        version = await _user_version(connection)
        if 0 < version < migrations.VERSION:
            await self._back_up(version)
        for step in migrations.STEPS[version:]:
            for statement in step:
                await connection.execute(statement)
        version = max(version, migrations.VERSION)
        await connection.execute(f"PRAGMA user_version = {version}")
        await connection.execute("COMMIT")

    async def _migrate_for_reading(self, reader: aiosqlite.Connection) -> None:
        """Migrate a file of an older bigpe: the queries need the newest schema."""
        if 0 < await self._check_version(reader) < migrations.VERSION:
            async with contextlib.AsyncExitStack() as opened:
                await self._prepare(await self._connect(opened, writable=True))

    async def _back_up(self, version: int) -> None:
        """Copy all committed data, including the write-ahead log. The copy is atomic."""
        copy = self.path.with_name(f"{self.path.name}.v{version}.bak")
        unfinished = copy.with_suffix(".tmp")
        try:
            unfinished.unlink(missing_ok=True)
            async with (
                _connection(self.path) as source,
                _connection(unfinished) as target,
            ):
                await source.backup(target)
            unfinished.replace(copy)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"cannot back up {self.path} before it is migrated: {error}; make room for "
                f"{copy.name} beside it. Nothing was changed"
            ) from error

    async def _tune(self, connection: aiosqlite.Connection) -> None:
        level = "FULL" if self._durability == "full" else "NORMAL"
        for setting in (
            "journal_mode = WAL",
            f"synchronous = {level}",
            "foreign_keys = ON",
            f"journal_size_limit = {WAL_KEPT_BYTES}",
        ):
            # Fetched, so that no statement stays open on the connection.
            await connection.execute_fetchall(f"PRAGMA {setting}")

    async def _check_version(self, connection: aiosqlite.Connection) -> int:
        # Tables first: another process may commit the first schema between the two statements.
        tables = await _value(connection, "SELECT count(*) FROM sqlite_master")
        application = await _value(connection, "PRAGMA application_id")
        if tables and application != migrations.APPLICATION_ID:
            raise ForeignDatabaseError(
                f"{self.path} was not written by bigpe 0.2.0 or later: it is a project of bigpe "
                "0.1.0 or a database of another program, and this version cannot use it. Run "
                "`bigpe init` in an empty folder to start a new project. Nothing was changed."
            )
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
            "disk I/O error": "see to the disk (a quota? a broken or lost drive?), then run "
            "`bigpe resume`",
            "attempt to write a readonly database": "make the file and its folder writable",
            "unable to open database file": "check that the folder exists and may be written",
            "database is locked": "another program holds the file; close it and try again",
            "file is not a database": "this is not a bigpe project; choose another folder",
            "database disk image is malformed": "restore the file from a backup",
        }.get(text, "nothing of this write was kept")
        if self._sealed and ("prohibited" in text or "not authorized" in text):
            remedy = "a run cannot read results on held-out prompts"
        return StoreError(f"{self.path}: {text}; {remedy}")


@contextlib.asynccontextmanager
async def _connection(
    database: str | Path, **settings: Any
) -> AsyncGenerator[aiosqlite.Connection]:
    """An open connection. A caller that is cancelled during the opening waits for its close.

    `aiosqlite.connect` alone does not wait: its thread then reports to a closed event loop.
    """
    opening = asyncio.ensure_future(aiosqlite.connect(database, **settings))
    try:
        connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()
        raise
    try:
        yield connection
    finally:
        await connection.close()


def _refuse_sealed(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """SQLite's authorizer: deny sealed tables and statements that could circumvent the denial."""
    refused = {first, second} & SEALED or action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


async def _run_together(
    writer: aiosqlite.Connection, jobs: Sequence[Sequence[Statement]]
) -> Sequence[list[int] | Exception]:
    return [
        [max(0, (await writer.execute(QUERIES[query], params)).rowcount) for query, params in job]
        for job in jobs
    ]


async def _value(connection: aiosqlite.Connection, sql: str) -> int:
    ((value,),) = await connection.execute_fetchall(sql)
    return int(value)


async def _user_version(connection: aiosqlite.Connection) -> int:
    return await _value(connection, "PRAGMA user_version")
