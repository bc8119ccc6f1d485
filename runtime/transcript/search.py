"""Finds messages in a transcript of any length, page by page.

A page begins at a sequence number, so no rows are counted. A search reads for a limited time, then
returns the rows and the place that it reached. There is no full-text index, because it would slow
down each commit of the run for a few searches (docs/decisions/0014).
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Any, NamedTuple, TypedDict

from pydantic import ValidationError

from bigpe.agents.messages.core import AnyMessage, parse_message
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store
from bigpe.services.store.paging import PAGE, page

QUIET_KINDS = ("RenderRequested", "ScoreRequested", "ImageRendered", "LlmTurn")
"""Left out of the short transcript: a later message has the same content."""
SESSION = "session"
"""The sender of messages that no actor sends."""
STRETCH = 20_000
"""Sequence numbers that a search covers per query."""
CANDIDATES = 500
"""Most rows that a query of a search returns."""
SECONDS = 0.25
"""Time limit of a search."""
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
"""An id of a message, an instruction or an image."""
SHORTEST_ID = 6
"""Fewest characters that find an id."""


class TranscriptRow(NamedTuple):
    """A stored message."""

    seq: int
    mid: str
    kind: str
    sender: str
    parent: str
    round: int
    body: str
    """Its JSON."""
    ts: float
    """Unix time, seconds."""
    tokens: int
    ms: float
    """Duration of the step that sent it."""

    @property
    def message(self) -> AnyMessage | None:
        """The message; None if this version of bigpe cannot read it."""
        try:
            return parse_message(self.body)
        except ValidationError:
            return None


class Wanted(NamedTuple):
    """The conditions of a search; None and "" mean any."""

    kind: str | None = None
    round: int | None = None
    sender: str | None = None
    text: str = ""
    """Part of any text in the message, case-insensitive."""
    quiet: bool = False
    """Whether `QUIET_KINDS` are left out. `kind` and `text` override it."""

    def accepts(self, row: TranscriptRow) -> bool:
        """Whether a row, already selected by kind, round and sender, meets the other conditions."""
        if self.text:
            return has_text(row.body, self.text)
        return self.kind is not None or not self.quiet or row.kind not in QUIET_KINDS


class Cursor(NamedTuple):
    """The place where a search begins, and its direction."""

    seq: int = 0
    """The search excludes the message with this sequence number."""
    backward: bool = False

    @classmethod
    def after(cls, seq: int) -> Cursor:
        """Forward from a sequence number."""
        return cls(seq)

    @classmethod
    def before(cls, seq: int) -> Cursor:
        """Backward from a sequence number."""
        return cls(seq, backward=True)


START = Cursor()


class Page(NamedTuple):
    """The result of a search, in transcript order."""

    rows: list[TranscriptRow]
    first: int
    """First sequence number that the search covers."""
    last: int
    """Last sequence number that the search covers."""
    more: bool
    """Whether there are more messages in the direction of the search."""

    @property
    def older(self) -> Cursor:
        """The cursor of the page above."""
        return Cursor.before(self.first)

    @property
    def newer(self) -> Cursor:
        """The cursor of the page below."""
        return Cursor.after(self.last)


class Stretch(NamedTuple):
    """The rows of a query, in the direction of the search."""

    rows: list[TranscriptRow]
    reached: int
    """The sequence number up to which all rows were read."""


async def find(
    store: Store,
    run: str,
    wanted: Wanted,
    cursor: Cursor = START,
    *,
    limit: int = 100,
    seconds: float | None = SECONDS,
) -> Page:
    """Find the next `limit` messages from the cursor on.

    The search stops after `seconds` (None: never); the page then has the place that it reached.
    """
    until = None if seconds is None else time.monotonic() + seconds
    if wanted.sender == SESSION:
        wanted = wanted._replace(sender="")
    ends = await store.row("ends_of_run", run=run)
    oldest, newest = (ends["first"] or 0, ends["last"] or 0) if ends else (0, 0)
    if cursor.backward:
        start = min(cursor.seq, newest + 1)
        stretches = read_backward(store, run, wanted, start, oldest)
    else:
        start = max(cursor.seq, oldest - 1)
        stretches = read_forward(store, run, wanted, start, newest)
    rows: list[TranscriptRow] = []
    reached = start
    async with aclosing(stretches):
        async for stretch in stretches:
            rows += islice(filter(wanted.accepts, stretch.rows), limit - len(rows))
            reached = stretch.reached if len(rows) < limit else rows[-1].seq
            if len(rows) >= limit or (until is not None and time.monotonic() > until):
                break
    if cursor.backward:
        return Page(rows[::-1], reached, start - 1, more=reached > oldest)
    return Page(rows, start + 1, reached, more=reached < newest)


async def every(store: Store, run: str, wanted: Wanted) -> AsyncIterator[TranscriptRow]:
    """All wanted messages in transcript order, read page by page."""
    cursor, more = START, True
    while more:
        found = await find(store, run, wanted, cursor, limit=PAGE, seconds=None)
        for row in found.rows:
            yield row
        cursor, more = found.newer, found.more


async def read_forward(
    store: Store, run: str, wanted: Wanted, after: int, newest: int
) -> AsyncGenerator[Stretch]:
    """The candidates after a sequence number up to the run's newest message."""
    while after < newest:
        if wanted.text:
            upto = min(after + STRETCH, newest)
            rows = await _candidates(store, run, wanted, "search_after", after + 1, upto)
            full = len(rows) == CANDIDATES
        else:
            rows = await page(store, run, after=after, **_columns(wanted))
            upto = max(newest, rows[-1]["seq"] if rows else 0)  # the run may be active
            full = len(rows) == PAGE
        after = rows[-1]["seq"] if full else upto
        yield Stretch([as_row(row) for row in rows], after)


async def read_backward(
    store: Store, run: str, wanted: Wanted, before: int, oldest: int
) -> AsyncGenerator[Stretch]:
    """The candidates before a sequence number down to the run's oldest message."""
    while before > oldest:
        if wanted.text:
            downto = max(before - STRETCH, oldest)
            rows = await _candidates(store, run, wanted, "search_before", downto, before - 1)
            full = len(rows) == CANDIDATES
        else:
            downto = oldest
            rows = (await page(store, run, before=before, **_columns(wanted)))[::-1]
            full = len(rows) == PAGE
        before = rows[-1]["seq"] if full else downto
        yield Stretch([as_row(row) for row in rows], before)


class _Columns(TypedDict):
    """The conditions of the query; None means any."""

    type: str | None
    round: int | None
    sender: str | None


def _columns(wanted: Wanted) -> _Columns:
    return {"type": wanted.kind, "round": wanted.round, "sender": wanted.sender}


async def _candidates(
    store: Store, run: str, wanted: Wanted, query: str, lowest: int, highest: int
) -> list[sqlite3.Row]:
    """The rows between two sequence numbers that may contain the text."""
    return await store.rows(
        query,
        run=run,
        lowest=lowest,
        highest=highest,
        pattern=pattern_of(wanted.text),
        limit=CANDIDATES,
        **_columns(wanted),
    )


def as_row(row: Any) -> TranscriptRow:
    """Convert a row of the database, whose columns are `MESSAGE_COLUMNS`."""
    found = TranscriptRow(*row)
    return found._replace(sender=found.sender or SESSION)


async def message_row(store: Store, run: str, mid: str) -> TranscriptRow | None:
    """The message with this id, or None."""
    row = await store.row("message_by_mid", run=run, mid=mid)
    return as_row(row) if row else None


async def message_like(store: Store, run: str, start: str) -> TranscriptRow:
    """The message whose id begins with `start`. ConfigError if there is none, or several."""
    rows = await store.rows("message_by_start", run=run, start=start, end=f"{start}g", limit=2)
    if len(rows) != 1:
        problem = "more than one message has an id" if rows else "no message has an id"
        raise ConfigError(
            f"{problem} that begins with {start!r} in run {run!r}; "
            "run `bigpe inspect --full` to see the ids"
        )
    return as_row(rows[0])


async def consequences(
    store: Store, run: str, mid: str, *, after: int = 0, limit: int = 100
) -> list[TranscriptRow]:
    """The messages that a message caused, in transcript order."""
    rows = await store.rows("consequences", run=run, mid=mid, after=after, limit=limit)
    return [as_row(row) for row in rows]


async def causes(store: Store, run: str, row: TranscriptRow) -> list[TranscriptRow]:
    """The chain of causes of a message: its parent first, the run's first message last."""
    found: list[TranscriptRow] = []
    while row.parent and (cause := await message_row(store, run, row.parent)):
        found.append(cause)
        row = cause
    return found


# -- text -------------------------------------------------------------------------------------


def has_text(body: str, text: str) -> bool:
    """Whether any text in the JSON `body` (its values, not its keys) contains `text`."""
    return any(text_at(value, text) >= 0 for value in texts_of(json.loads(body)))


def text_at(value: str, text: str) -> int:
    """Index of `text` in `value`, or -1. An id matches only by its beginning."""
    wanted = text.casefold()
    if ID.fullmatch(value):
        return 0 if len(wanted) >= SHORTEST_ID and value.startswith(wanted) else -1
    return value.casefold().find(wanted)


def texts_of(value: Any) -> Iterator[str]:
    """All texts within a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_of(part)


def pattern_of(text: str) -> str | None:
    """A LIKE pattern that matches all bodies with this text; None if there is no such pattern.

    It uses the text's longest part in which SQLite ignores the case.
    """
    runs = re.findall(r'[^\W_][^"\\%_\x00-\x1f\x7f-\U0010ffff]*', text, re.ASCII)
    longest = max(runs, key=len, default="")
    return f"%{longest}%" if longest else None
