"""All state of a project in one SQLite file: transcript, outbox, memo of paid calls, prompts.

The transcript is also the outbox. A message and the deliveries it owes commit in one transaction
with the mark that its cause was handled; only then is it published. So whatever instant the
process dies at, the file says which deliveries are still open, and nothing else has to be known.

One writer connection a process, on a thread of its own. Writes queue up and share commits (group
commit): each caller's statements are a savepoint, so that a bad one fails alone. Readers use a
connection and thread of their own and, because of WAL, neither block the writer nor wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from bigpe.services import migrations
from bigpe.services.errors import BigpeError, ForeignDatabaseError, StoreError
from bigpe.services.group_thread import GroupThread

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


def many(query: str, rows: Sequence[Params], **shared: object) -> Statement:
    """One statement for all rows, which the query takes as JSON; `shared` is the same of all."""
    # Not ASCII: what SQLite cannot hold is to be refused, not to come in as an escape.
    return (query, {"rows": json.dumps(rows, ensure_ascii=False), **shared})


class _Read(NamedTuple):
    query: str
    params: Params


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
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._reads: GroupThread[_Read, list[sqlite3.Row]] | None = None
        self._writes: GroupThread[Sequence[Statement], list[int]] | None = None

    async def __aenter__(self) -> Store:
        try:
            await asyncio.to_thread(self._open)
        except sqlite3.Error as error:
            await self.close()
            raise self._explain(error) from error
        except BigpeError:
            await self.close()
            raise
        if self._writer is not None:
            self._writes = GroupThread(self._commit, name="store-writer", max_group=MAX_GROUP)
        self._reads = GroupThread(self._fetch, name="store-reader", max_group=MAX_GROUP)
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
        threads, self._reads, self._writes = (self._reads, self._writes), None, None
        for thread in threads:
            if thread is not None:
                await thread.close()
        for connection in (self._reader, self._writer):
            if connection is not None:
                await asyncio.to_thread(connection.close)
        self._reader = self._writer = None

    # -- reading ------------------------------------------------------------------------------

    async def rows(self, query: str, /, **params: Any) -> list[sqlite3.Row]:
        """All rows of the named query."""
        if self._reads is None:
            raise StoreError(f"{self.path} is not open")
        return await self._reads.do(_Read(query, params))

    async def one(self, query: str, /, **params: Any) -> sqlite3.Row | None:
        """The first row of the named query, or None."""
        found = await self.rows(query, **params)
        return found[0] if found else None

    def _fetch(self, reads: Sequence[_Read]) -> list[list[sqlite3.Row] | Exception]:
        """On the reader's thread."""
        answers: list[list[sqlite3.Row] | Exception] = []
        for query, params in reads:
            try:
                answers.append(_live(self._reader).execute(QUERIES[query], params).fetchall())
            except UNWRITABLE as error:
                answers.append(self._explain(error))
        return answers

    # -- writing ------------------------------------------------------------------------------

    async def write(self, statements: Iterable[Statement]) -> list[int]:
        """Run (query name, parameters) pairs in one transaction; returns once it is committed,
        how many rows each changed.

        Raises StoreError when it could not be committed; then none of it was.
        """
        if self._writes is None:
            why = "open for reading only" if self._read_only else "not open"
            raise StoreError(f"{self.path} is {why}")
        return await self._writes.do(list(statements))

    def _commit(self, jobs: Sequence[Sequence[Statement]]) -> Sequence[list[int] | Exception]:
        """On the writer's thread: one transaction. Only if a job fails, a savepoint each."""
        connection = _live(self._writer)
        for run_jobs in (_run_together, self._run_apart):
            try:
                connection.execute("BEGIN IMMEDIATE")
            except UNWRITABLE as error:
                # No job is to blame, and the lock was waited for long enough already.
                return [self._explain(error) for _ in jobs]
            try:
                answers = run_jobs(jobs, connection)
                connection.execute("COMMIT")
                return answers
            except UNWRITABLE as error:
                if connection.in_transaction:
                    connection.rollback()
                failure = error
        return [self._explain(failure) for _ in jobs]

    def _run_apart(
        self, jobs: Sequence[Sequence[Statement]], connection: sqlite3.Connection
    ) -> Sequence[list[int] | Exception]:
        answers: list[list[int] | Exception] = []
        for job in jobs:
            connection.execute("SAVEPOINT job")
            try:
                answers += _run_together([job], connection)
            except UNWRITABLE as error:
                if not connection.in_transaction:
                    raise  # SQLite gave up the whole transaction (disk full): nobody committed
                connection.execute("ROLLBACK TO job")
                answers.append(self._explain(error))
            connection.execute("RELEASE job")
        return answers

    # -- opening ------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self._read_only:
            self._writer = self._connect(writable=True)
            self._prepare(self._writer)
        self._reader = self._connect(writable=False)
        self._migrate_for_reading(self._reader)
        self._seal()

    def _connect(self, *, writable: bool) -> sqlite3.Connection:
        if writable:
            self._make_folder()
        mode = "rwc" if writable else "ro"
        if not writable and not self.path.exists():
            raise StoreError(
                f"there is no project database at {self.path}; start with `bigpe init`"
            )
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # each is used by one thread at a time
        )
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        return connection

    def _seal(self) -> None:
        if self._sealed:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.set_authorizer(_refuse_sealed)

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder {self.path.parent}: {error.strerror}; "
                "choose a folder that you may write"
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = self._check_version(connection)
        if version == migrations.VERSION:
            self._tune(connection)
            return
        self._tune(connection)
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have migrated between the look and the lock.
        version = _user_version(connection)
        if 0 < version < migrations.VERSION:
            self._back_up(version)
        for step in migrations.STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, migrations.VERSION)}")
        connection.execute("COMMIT")

    def _migrate_for_reading(self, reader: sqlite3.Connection) -> None:
        """The queries are of the newest schema, so a database of an older one is migrated first."""
        if 0 < self._check_version(reader) < migrations.VERSION:
            connection = self._connect(writable=True)
            try:
                self._prepare(connection)
            finally:
                connection.close()

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

    def _tune(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        level = "FULL" if self._durability == "full" else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {level}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")

    def _check_version(self, connection: sqlite3.Connection) -> int:
        # Tables first: another process may commit the first schema between the two statements.
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if tables and application != migrations.APPLICATION_ID:
            raise ForeignDatabaseError(
                f"{self.path} was not written by bigpe 0.2.0 or later: it is a project of bigpe "
                "0.1.0 or a database of another program, and this version cannot use it. Run "
                "`bigpe init` in an empty folder to start a new project. Nothing was changed."
            )
        version = _user_version(connection)
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
            remedy = "what is known of held-out prompts is not for a run to see"
        return StoreError(f"{self.path}: {text}; {remedy}")


def _refuse_sealed(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """SQLite's authorizer: no statement may name a sealed table, nor open a second way in."""
    refused = {first, second} & SEALED or action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _run_together(
    jobs: Sequence[Sequence[Statement]], connection: sqlite3.Connection
) -> Sequence[list[int] | Exception]:
    return [
        [max(0, connection.execute(QUERIES[query], params).rowcount) for query, params in job]
        for job in jobs
    ]


def _live(connection: sqlite3.Connection | None) -> sqlite3.Connection:
    assert connection is not None, "its thread ends before it is closed"
    return connection


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
