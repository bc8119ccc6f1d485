"""A run's LLM exchanges, replayed in AgentChat's Console."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage
from autogen_agentchat.ui import Console

from bigpe.agents.chat_form import chat_messages
from bigpe.agents.messages import LlmTurn
from bigpe.runtime.search import Wanted, every
from bigpe.services.store import Store


async def replay(store: Store, run: str, *, round: int | None = None) -> TaskResult:
    """Print the exchanges as a team's conversation would be printed; returns them as its result."""

    async def stream() -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | TaskResult, None]:
        said: list[BaseAgentEvent | BaseChatMessage] = []
        async for row in every(store, run, Wanted(kind="LlmTurn", round=round)):
            if isinstance(turn := row.message, LlmTurn):
                for message in chat_messages(turn, row.ts):
                    said.append(message)
                    yield message
        yield TaskResult(messages=said, stop_reason="end of the transcript")

    return await Console(stream(), output_stats=False)
