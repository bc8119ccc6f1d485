"""Finding messages in a transcript of any length, a page at a time.

A page is found by its place (the sequence number after or before which it lies), never by counting,
and a search looks at a bounded stretch before it answers: with what it found and how far it came.
Nothing is indexed for it: an index of every word said would cost each commit of the run more than
it is worth to the few who search (docs/decisions/0014).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from bigpe.agents.messages import AnyMessage, parse_message
from bigpe.services.errors import ConfigError
from bigpe.services.paging import NEWEST, PAGE, page
from bigpe.services.store import Store

QUIET_KINDS = ("RenderRequested", "ScoreRequested", "ImageRendered", "LlmTurn")
"""Left out of the short transcript: each is told by its consequence."""
SESSION = "session"
"""Who says what no actor says."""
STRETCH = 20_000
"""Rows that a search looks at in one go."""
CANDIDATES = 500
SECONDS = 0.25
"""A search answers after about so long."""
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
"""Of messages, instructions and pictures."""
SHORTEST_ID = 6
"""Characters of an id that name it in a search."""


class Row(NamedTuple):
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
    """How long the step took that said it."""

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
    """Without the kinds that are told by their consequence, unless `kind` asks for one."""


class Page(NamedTuple):
    """What was found, in transcript order."""

    rows: list[Row]
    more: bool
    """Whether there may be more in the direction of the search."""
    reached: int
    """Up to which sequence number was searched: where to go on."""


async def find(
    store: Store,
    run: str,
    wanted: Wanted,
    *,
    after: int = 0,
    before: int | None = None,
    limit: int = 100,
    seconds: float | None = SECONDS,
) -> Page:
    """The first `limit` wanted messages after `after`, or the last ones before `before`.

    `seconds`: stop searching after about so long (None: never) and say how far it came.
    """
    until = None if seconds is None else time.monotonic() + seconds
    if wanted.sender == SESSION:
        wanted = wanted._replace(sender="")
    ends = await store.one("ends_of_run", run=run)
    first, last = (ends["first"] or 0, ends["last"] or 0) if ends else (0, 0)
    found: list[Row] = []
    at = max(after, first - 1) if before is None else min(before, last + 1)
    while at < last if before is None else at > first:
        look = _search if wanted.text else _turn_pages
        rows, at = await look(store, run, wanted, at, before is not None, limit - len(found))
        found += rows
        if len(found) >= limit or (until is not None and time.monotonic() > until):
            break
    more = at < last if before is None else at > first
    return Page(found if before is None else found[::-1], more, at)


async def every(store: Store, run: str, wanted: Wanted) -> AsyncIterator[Row]:
    """All wanted messages in transcript order, read a page at a time."""
    after, more = 0, True
    while more:
        found = await find(store, run, wanted, after=after, limit=PAGE, seconds=None)
        for row in found.rows:
            yield row
        after, more = found.reached, found.more


async def _turn_pages(
    store: Store, run: str, wanted: Wanted, at: int, backward: bool, limit: int
) -> tuple[list[Row], int]:
    """The next wanted messages from `at` on, in the direction of the search, and where they end."""
    rows = await page(
        store,
        run,
        after=at,
        before=at if backward else None,
        round=wanted.round,
        type=wanted.kind,
        sender=wanted.sender,
    )
    found = [as_row(row) for row in (rows[::-1] if backward else rows)]
    quiet = wanted.quiet and wanted.kind is None
    kept = [row for row in found if not (quiet and row.kind in QUIET_KINDS)][:limit]
    if len(kept) == limit:
        return kept, kept[-1].seq
    if len(rows) == PAGE:
        return kept, found[-1].seq
    return kept, (0 if backward else NEWEST)


async def _search(
    store: Store, run: str, wanted: Wanted, at: int, backward: bool, limit: int
) -> tuple[list[Row], int]:
    """Like `_turn_pages`, with a text: one stretch."""
    lowest, highest = (at - STRETCH, at - 1) if backward else (at + 1, at + STRETCH)
    rows = await store.rows(
        f"search_{'before' if backward else 'after'}",
        run=run,
        lowest=lowest,
        highest=highest,
        type=wanted.kind,
        round=wanted.round,
        sender=wanted.sender,
        pattern=pattern_of(wanted.text),
        limit=CANDIDATES,
    )
    matching = (as_row(row) for row in rows if has_text(row["body"], wanted.text))
    kept = list(islice(matching, limit))
    if len(kept) == limit:
        return kept, kept[-1].seq
    if len(rows) == CANDIDATES:
        return kept, rows[-1]["seq"]
    return kept, (lowest if backward else highest)


def as_row(row: Any) -> Row:
    """A stored row."""
    return Row(
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


async def message_row(store: Store, run: str, mid: str) -> Row | None:
    """The message of that id, or None."""
    row = await store.one("message_by_mid", run=run, mid=mid)
    return as_row(row) if row else None


async def message_like(store: Store, run: str, start: str) -> Row:
    """The one message whose id begins so; ConfigError when there is none, or several."""
    rows = await store.rows("message_by_start", run=run, start=start, end=f"{start}g", limit=2)
    if len(rows) != 1:
        told = "more than one message has an id that begins" if rows else "no message has an id"
        raise ConfigError(f"{told} {start!r} in run {run!r}; `bigpe inspect --full` shows the ids")
    return as_row(rows[0])


async def consequences(
    store: Store, run: str, mid: str, *, after: int = 0, limit: int = 100
) -> list[Row]:
    """The messages that this one caused, in transcript order."""
    rows = await store.rows("consequences", run=run, mid=mid, after=after, limit=limit)
    return [as_row(row) for row in rows]


async def causes(store: Store, run: str, row: Row) -> list[Row]:
    """What led to a message: its cause first, the run's first message last."""
    found: list[Row] = []
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
