"""The paid calls behind an LLM exchange: the exact request, seed and settings, and the answer."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bigpe.agents.messages import LlmTurn
from bigpe.runtime.search import Row
from bigpe.services.store import Store

SLACK_S = 2.0
"""Between the end of a step and its commit, at most about so long."""
MOST = 20


class PaidCall(NamedTuple):
    """A row of the memo."""

    key: str
    """Digest of all that the answer depends on."""
    request: str
    """Canonical JSON."""
    answer: str
    """JSON."""
    ms: float
    ts: float
    """Unix time, seconds."""


async def paid_calls(store: Store, row: Row, turn: LlmTurn) -> list[PaidCall]:
    """The calls of this exchange, attempts that could not be used included, oldest first.

    The transcript does not repeat what the memo keeps; a call is found by its time and its exact
    words. Where the step took the answer of an earlier call, it is that call.
    """
    if not turn.chat:
        return []
    asked = [_words(part) for part in turn.chat[:-1]]
    own = await _calls(store, row.ts - row.ms / 1000 - SLACK_S, row.ts, asked)
    if own:
        return own[::-1]
    answer = _words(turn.chat[-1])
    earlier = await _calls(store, 0.0, row.ts, asked)
    return [call for call in earlier if _words(json.loads(call.answer)) == answer][:1]


async def _calls(store: Store, since: float, until: float, asked: list[str]) -> list[PaidCall]:
    """The calls of that time with these words, latest first."""
    last = json.dumps(asked[-1] if asked else "", ensure_ascii=False)
    rows = await store.rows("llm_effects", since=since, until=until, words=last, limit=MOST)
    return [
        PaidCall(row["key"], row["request"], row["result"], row["ms"], row["ts"])
        for row in rows
        if [_words(part) for part in json.loads(row["request"])["turns"]] == asked
    ]


def _words(part: dict[str, Any]) -> str:
    """What a turn says: `text` in a request or answer, `content` in AgentChat's form."""
    return str(part.get("text", part.get("content", "")))
