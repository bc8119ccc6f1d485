"""The pages of the transcript: the messages of a run, and a single message with its causes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request

from bigpe.agents.messages.core import LlmTurn
from bigpe.runtime.transcript.describing.messages import describe_row
from bigpe.runtime.transcript.describing.parts import Description, summary
from bigpe.runtime.transcript.llm_calls import paid_calls
from bigpe.runtime.transcript.search import (
    SESSION,
    Cursor,
    Page,
    TranscriptRow,
    Wanted,
    causes,
    consequences,
    find,
    message_row,
    text_at,
    texts_of,
)
from bigpe.runtime.viewer.context import Context
from bigpe.services.store.paging import NEWEST

A_PAGE = 60
MOST_CAUSES = 12
SNIPPET = 90
"""Characters on each side of the searched text."""


class Entry(NamedTuple):
    """A message and its description."""

    row: TranscriptRow
    description: Description
    snippet: str = ""
    """The searched text with its context; empty without a search."""

    @property
    def summary(self) -> str:
        """The description as a single line."""
        return summary(self.description)


class FoldedEntries(NamedTuple):
    """Successive messages of the same kind and round, shown as a single entry."""

    members: list[Entry]


async def show(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page. `type`, `round`, `actor`, `q`, `all`: filters; `after`, `before`: its place."""
    params = request.query_params
    filters = {
        name: params[name] for name in ("type", "round", "actor", "q", "all") if params.get(name)
    }
    wanted = Wanted(
        kind=filters.get("type"),
        round=_number(filters.get("round")),
        sender=filters.get("actor"),
        text=filters.get("q", ""),
        quiet="all" not in filters,
    )
    cursor = _cursor(params)
    page = await find(context.store, context.run, wanted, cursor, limit=A_PAGE)
    older, newer = _neighbours(page, cursor)
    counts = await context.store.rows("count_messages_by_sender", run=context.run)
    return "pages/transcript.html", {
        "here": "transcript",
        "filters": filters,
        "query": urlencode(filters),
        "entries": folded([entry_of(row, wanted.text) for row in page.rows]),
        "older": older,
        "newer": newer,
        "tail": page.last if newer is None else None,
        "kinds": sorted({row["type"] for row in counts}),
        "actors": sorted({row["sender"] or SESSION for row in counts}),
        "searching": page.more and len(page.rows) < A_PAGE,
        "reached": page.first if cursor.backward else page.last,
    }


def _cursor(params: Mapping[str, str]) -> Cursor:
    """The cursor of the page's address."""
    if params.get("at") == "end":
        return Cursor.before(NEWEST)
    before = _number(params.get("before"))
    if before is not None:
        return Cursor.before(before)
    return Cursor.after(_number(params.get("after")) or 0)


def _neighbours(page: Page, cursor: Cursor) -> tuple[int | None, int | None]:
    """The `before` of the page above and the `after` of the page below; None without a page."""
    if cursor.backward:
        above, below = page.more, cursor.seq < NEWEST
    else:
        above, below = cursor.seq > 0, page.more
    return (page.first if above else None, page.last if below else None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def entry_of(row: TranscriptRow, text: str = "") -> Entry:
    """The entry of a stored message; `text`: the searched text."""
    return Entry(row, describe_row(row), snippet(row.body, text) if text else "")


def snippet(body: str, text: str) -> str:
    """The first text of a message that contains `text`, cut around it."""
    for value in texts_of(json.loads(body)):
        at = text_at(value, text)
        if at >= 0:
            start, end = max(0, at - SNIPPET), at + len(text) + SNIPPET
            cut = value[start:end]
            return f"{'…' if start else ''}{cut}{'…' if end < len(value) else ''}"
    return ""


def folded(entries: Sequence[Entry]) -> list[Entry | FoldedEntries]:
    """The entries; successive entries of a folding kind are grouped by kind and round."""
    displayed: list[Entry | FoldedEntries] = []
    for (_, _, folds), group in groupby(entries, _fold_key):
        members = [*group]
        displayed += [FoldedEntries(members)] if folds else members
    return displayed


def _fold_key(entry: Entry) -> tuple[str, int, bool]:
    folds = entry.description.folds and not entry.snippet
    return (entry.row.kind, entry.row.round, folds)


# -- a message -------------------------------------------------------------------------------


async def required_message(context: Context, request: Request) -> TranscriptRow:
    """The message of the address, or a 404 page."""
    mid = request.path_params["mid"]
    row = await message_row(context.store, context.run, mid)
    if row is None:
        raise HTTPException(404, f"run {context.run!r} has no message {mid[:40]!r}")
    return row


async def show_message(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page of a message: causes, consequences, the model's exact request, raw JSON."""
    row = await required_message(context, request)
    after = _number(request.query_params.get("after")) or 0
    led = await causes(context.store, context.run, row)
    followed = await consequences(context.store, context.run, row.mid, after=after, limit=A_PAGE)
    message = row.message
    calls = await paid_calls(context.store, message) if isinstance(message, LlmTurn) else []
    return "pages/message.html", {
        "here": "transcript",
        "entry": entry_of(row),
        "causes": [entry_of(cause) for cause in led[:MOST_CAUSES]],
        "consequences": [entry_of(consequence) for consequence in followed],
        "more_consequences": followed[-1].seq if len(followed) == A_PAGE else None,
        "calls": calls,
    }
