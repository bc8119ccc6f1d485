"""The transcript: what the actors said to each other, and one message with all about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request

from bigpe.agents.messages import AnyMessage, LlmTurn
from bigpe.runtime.llm_calls import paid_calls
from bigpe.runtime.search import (
    Row,
    Wanted,
    causes,
    consequences,
    find,
    message_row,
    text_at,
    texts_of,
)
from bigpe.runtime.transcript import describe_row
from bigpe.runtime.viewer.context import Context
from bigpe.services.paging import NEWEST

A_PAGE = 60
SHOWN_CAUSES = 12
SNIPPET = 90
"""Characters shown on each side of what was searched for."""
STRIPPED = ("RenderRequested", "ImageRendered", "ScoreRequested", "ImageScored")
"""Said many times in a row: shown as a row."""


class Said(NamedTuple):
    """A message as it is shown."""

    row: Row
    message: AnyMessage | None
    """None: of a kind that this version does not know; then its JSON is shown."""
    headline: str
    details: list[str]
    snippet: str = ""
    """Where the searched text stands, when a search was made."""


class Strip(NamedTuple):
    """Messages of one kind that follow one another, shown as one entry."""

    members: list[Said]

    @property
    def first(self) -> Row:
        """The first one's row."""
        return self.members[0].row


async def show(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page: `type`, `round`, `actor`, `q`, `all` filter; `after` or `before` a place."""
    asked = request.query_params
    filters = {
        name: asked[name] for name in ("type", "round", "actor", "q", "all") if asked.get(name)
    }
    wanted = Wanted(
        kind=filters.get("type"),
        round=_number(filters.get("round")),
        sender=filters.get("actor"),
        text=filters.get("q", ""),
        quiet="all" not in filters,
    )
    before = _number(asked.get("before"))
    if asked.get("at") == "end":
        before = NEWEST
    after = _number(asked.get("after")) or 0
    page = await find(context.store, context.run, wanted, after=after, before=before, limit=A_PAGE)
    said = [tell(row, wanted.text) for row in page.rows]
    counts = await context.store.rows("count_messages_by_sender", run=context.run)
    return "transcript.html", {
        "here": "transcript",
        "filters": filters,
        "query": urlencode(filters),
        "entries": strips(said),
        "page": page,
        "older": _older(page.rows, before, page.more, after, page.reached),
        "newer": _newer(page.rows, before, page.more, page.reached),
        "kinds": sorted({row["type"] for row in counts}),
        "actors": sorted({row["sender"] or "session" for row in counts}),
        "searching": page.more and len(page.rows) < A_PAGE,
    }


def _older(
    rows: Sequence[Row], before: int | None, more: bool, after: int, reached: int
) -> int | None:
    """The `before` of the page above; None: this is the first."""
    if before is not None:
        if not more:
            return None
        return rows[0].seq if len(rows) == A_PAGE else reached
    return after + 1 if after > 0 else None


def _newer(rows: Sequence[Row], before: int | None, more: bool, reached: int) -> int | None:
    """The `after` of the page below; None: this is the last."""
    if before is not None:
        return before - 1 if before < NEWEST else None
    if not more:
        return None
    return rows[-1].seq if len(rows) == A_PAGE else reached


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def tell(row: Row, text: str = "") -> Said:
    """A row with its headline."""
    message = row.message
    headline, *details = describe_row(row)
    return Said(row, message, headline, details, snippet(row.body, text) if text else "")


def snippet(body: str, text: str) -> str:
    """The first text of a message that contains `text`, cut around it."""
    for value in texts_of(json.loads(body)):
        at = text_at(value, text)
        if at >= 0:
            start, end = max(0, at - SNIPPET), at + len(text) + SNIPPET
            cut = value[start:end]
            return f"{'…' if start else ''}{cut}{'…' if end < len(value) else ''}"
    return ""


def strips(said: Sequence[Said]) -> list[Said | Strip]:
    """Requests and pictures that follow one another are put together."""
    entries: list[Said | Strip] = []
    for one in said:
        last = entries[-1] if entries else None
        if one.message is None or one.row.kind not in STRIPPED or one.snippet:
            entries.append(one)
        elif isinstance(last, Strip) and (last.first.kind, last.first.round) == (
            one.row.kind,
            one.row.round,
        ):
            last.members.append(one)
        else:
            entries.append(Strip([one]))
    return entries


# -- one message ------------------------------------------------------------------------------


async def required_message(context: Context, request: Request) -> Row:
    """The message of the address; a 404 page when there is none."""
    mid = request.path_params["mid"]
    row = await message_row(context.store, context.run, mid)
    if row is None:
        raise HTTPException(404, f"run {context.run!r} has no message {mid[:40]!r}")
    return row


async def show_message(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page of one message: causes, consequences, the model's exact request, raw JSON."""
    row = await required_message(context, request)
    after = _number(request.query_params.get("after")) or 0
    led = await causes(context.store, context.run, row)
    followed = await consequences(context.store, context.run, row.mid, after=after, limit=A_PAGE)
    message = row.message
    calls = await paid_calls(context.store, message) if isinstance(message, LlmTurn) else []
    return "message.html", {
        "here": "transcript",
        "said": tell(row),
        "causes": [tell(cause) for cause in led[:SHOWN_CAUSES]],
        "consequences": [tell(one) for one in followed],
        "more_consequences": followed[-1].seq if len(followed) == A_PAGE else None,
        "calls": calls,
    }
