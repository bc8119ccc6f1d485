"""Language model exchanges as AgentChat messages, which AgentChat's Console can replay.

Message ids are derived and times are left out (the transcript row has its own time), because a
resumed run must produce the same text for the same exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, MessageFactory, TextMessage
from autogen_core.models import RequestUsage

from bigpe.agents.messages.core import LlmTurn, Message
from bigpe.services.core.values import Json, LlmUsage, digest
from bigpe.services.llm.service import Turn


def llm_turn(
    cause: Message,
    role: str,
    place: str,
    turns: Sequence[Turn],
    usage: LlmUsage,
    effect_keys: Sequence[str],
) -> LlmTurn:
    """The transcript entry of one exchange; the last turn is the model's answer.

    `effect_keys`: keys of its stored calls, oldest first.
    """
    mid = digest([cause.mid, role, place])
    chat = tuple(_dump(turn, i, mid, role, usage, len(turns)) for i, turn in enumerate(turns))
    return LlmTurn.make(
        cause,
        f"{role}/{place}",
        role=role,
        chat=chat,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        effect_keys=tuple(effect_keys),
    )


def _dump(turn: Turn, index: int, mid: str, role: str, usage: LlmUsage, count: int) -> Json:
    answer = index == count - 1
    message = TextMessage(
        id=digest([mid, index])[:32],
        source=role if turn.role == "assistant" else turn.role,
        content=turn.text,
        metadata={} if answer else {"part": "request", **_pictures(turn)},
        models_usage=RequestUsage(
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens
        )
        if answer
        else None,
    )
    body: Json = dict(message.dump())
    body.pop("created_at", None)
    return body


def _pictures(turn: Turn) -> dict[str, str]:
    return {"pictures": " ".join(turn.images)} if turn.images else {}


def chat_messages(turn: LlmTurn, timestamp: float) -> Iterable[BaseChatMessage | BaseAgentEvent]:
    """The AgentChat messages of a transcript entry that was written at `timestamp` (Unix, s)."""
    factory = MessageFactory()
    created = datetime.fromtimestamp(timestamp, UTC).isoformat()
    for body in turn.chat:
        yield factory.create({**body, "created_at": created})
