"""Finds messages in a transcript of any length, page by page.

A page begins at a sequence number, so no rows are counted. A search reads a bounded stretch, then
answers with what it found and how far it came. There is no full-text index: it would slow each
commit of the run more than it helps the few searches (docs/decisions/0014).
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
"""Left out of the short transcript: a consequence of each says the same."""
SESSION = "session"
"""The sender of messages that no actor sends."""
STRETCH = 20_000
"""Sequence numbers that a search covers in one go."""
CANDIDATES = 500
"""Rows that the database returns of a stretch, at most."""
SECONDS = 0.25
"""Time after which a search answers."""
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
"""Of messages, instructions and pictures."""
SHORTEST_ID = 6
"""Characters of an id that name it in a search."""


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
        """The message; None when this version of bigpe does not know its kind or form."""
        try:
            return parse_message(self.body)
        except ValidationError:
            return None


class Wanted(NamedTuple):
    """Which messages; None and "" mean any."""

    kind: str | None = None
    round: int | None = None
    sender: str | None = None
    text: str = ""
    """Part of any text in the message, whatever the case."""
    quiet: bool = False
    """Without the quiet kinds, unless `kind` or `text` asks for more."""

    def accepts(self, row: TranscriptRow) -> bool:
        """Whether a row that the database selects by kind, round and sender is wanted."""
        if self.text:
            return has_text(row.body, self.text)
        return self.kind is not None or not self.quiet or row.kind not in QUIET_KINDS


class Cursor(NamedTuple):
    """The place where a search begins, and its direction."""

    seq: int = 0
    """The message with this sequence number is not searched itself."""
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
    """What a search finds, in transcript order."""

    rows: list[TranscriptRow]
    first: int
    """The search covers the sequence numbers from here"""
    last: int
    """to here."""
    more: bool
    """Whether messages are left in the direction of the search."""

    @property
    def older(self) -> Cursor:
        """Where the page above begins."""
        return Cursor.before(self.first)

    @property
    def newer(self) -> Cursor:
        """Where the page below begins."""
        return Cursor.after(self.last)


class Stretch(NamedTuple):
    """Rows that were read in one go, in the direction of the search."""

    rows: list[TranscriptRow]
    reached: int
    """The sequence number up to which everything was read."""


async def find(
    store: Store,
    run: str,
    wanted: Wanted,
    cursor: Cursor = START,
    *,
    limit: int = 100,
    seconds: float | None = SECONDS,
) -> Page:
    """The `limit` wanted messages that come next from the cursor on.

    `seconds`: time after which the search stops (None: never). The page says how far it came.
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
            upto = max(newest, rows[-1]["seq"] if rows else 0)  # the run may go on meanwhile
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
    """What the database selects by; None means any."""

    type: str | None
    round: int | None
    sender: str | None


def _columns(wanted: Wanted) -> _Columns:
    return {"type": wanted.kind, "round": wanted.round, "sender": wanted.sender}


async def _candidates(
    store: Store, run: str, wanted: Wanted, query: str, lowest: int, highest: int
) -> list[sqlite3.Row]:
    """The rows between two sequence numbers that may have the wanted text."""
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
    """A stored row."""
    return TranscriptRow(
        row["seq"],
        row["mid"],
        row["type"],
        row["sender"] or SESSION,
        row["parent"],
        row["round"],
        row["body"],
        row["ts"],
        row["tokens"],
        row["ms"],
    )


async def message_row(store: Store, run: str, mid: str) -> TranscriptRow | None:
    """The message of that id, or None."""
    row = await store.row("message_by_mid", run=run, mid=mid)
    return as_row(row) if row else None


async def message_like(store: Store, run: str, start: str) -> TranscriptRow:
    """The message whose id begins with `start`; ConfigError when there is none, or several."""
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
    """The messages that this one caused, in transcript order."""
    rows = await store.rows("consequences", run=run, mid=mid, after=after, limit=limit)
    return [as_row(row) for row in rows]


async def causes(store: Store, run: str, row: TranscriptRow) -> list[TranscriptRow]:
    """What led to a message: its cause first, the run's first message last."""
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
    """Where `value` contains `text`; -1: nowhere. An id is no text, its beginning names it."""
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
    """A LIKE pattern that every body with this text fits: its longest run that SQLite folds."""
    runs = re.findall(r'[^\W_][^"\\%_\x00-\x1f\x7f-\U0010ffff]*', text, re.ASCII)
    longest = max(runs, key=len, default="")
    return f"%{longest}%" if longest else None
