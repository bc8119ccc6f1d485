"""The LLM exchanges of a run: their stored calls, and their replay in AgentChat's Console."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage
from autogen_agentchat.ui import Console

from bigpe.agents.messages.core import LlmTurn
from bigpe.agents.reasoning.llm_turns import chat_messages
from bigpe.runtime.transcript.search import Wanted, every
from bigpe.services.store.database import Store


class PaidCall(NamedTuple):
    """A stored call of a language model."""

    key: str
    """Digest of all inputs of the answer."""
    request: str
    """Canonical JSON."""
    answer: str
    """JSON."""
    ms: float
    ts: float
    """Unix time, seconds."""


async def paid_calls(store: Store, turn: LlmTurn) -> list[PaidCall]:
    """Return the stored calls of this exchange, oldest attempt first.

    The transcript does not hold requests. An answer from the call cache has the time of the call.
    """
    rows = [await store.row("effect_by_key", key=key) for key in turn.effect_keys]
    return [
        PaidCall(row["key"], row["request"], row["result"], row["ms"], row["ts"])
        for row in rows
        if row is not None
    ]


async def replay(store: Store, run: str, *, round: int | None = None) -> TaskResult:
    """Print the exchanges as a conversation in AgentChat's Console, and return its result."""

    async def stream() -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | TaskResult, None]:
        printed: list[BaseAgentEvent | BaseChatMessage] = []
        async for row in every(store, run, Wanted(kind="LlmTurn", round=round)):
            if isinstance(turn := row.message, LlmTurn):
                for message in chat_messages(turn, row.ts):
                    printed.append(message)
                    yield message
        yield TaskResult(messages=printed, stop_reason="end of the transcript")

    return await Console(stream(), output_stats=False)
