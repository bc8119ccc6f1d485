"""AgentChat agents as plugin actors: bigpe writes the task as text and parses the answer.

Each message gets a new agent, because AgentChat agents keep their history and a plugin's answer
may depend only on the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from autogen_core import CancellationToken
from pydantic import BaseModel, Field, ValidationError

from bigpe.agents.evidence.terms import one_line
from bigpe.agents.messages.core import AnyMessage, CritiqueRequested, Gradient
from bigpe.agents.messages.plugin import Judgement, Verdict
from bigpe.agents.plugins import Contributor, Gate, Observer, PluginRole, RoleContext, RoleError
from bigpe.agents.plugins.llm import LOADING, PluginLlmClient
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json, Value, derive_seed

if TYPE_CHECKING:  # AgentChat is imported where an agent is used, which few runs do
    from autogen_agentchat.base import ChatAgent

M = TypeVar("M", bound=BaseModel)

TRUSTED_AGENTS = ("autogen_agentchat.agents.", "autogen_core.model_context.")
"""Trusted provider prefixes. Loading a component imports code, so others need `allow`."""
ASSISTANT = "autogen_agentchat.agents.AssistantAgent"
CLIENT: Json = {
    "provider": PluginLlmClient.component_provider_override,
    "component_type": "model",
    "config": {},
}


class AgentConfig(Value):
    """`[roles.NAME.agent]`: an AgentChat component. Its model is `[llm.NAME]`."""

    provider: str = ASSISTANT
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    temperature: float = Field(default=0.7, ge=0.0, le=2.0)
    max_tokens: int = Field(default=512, ge=1)


def check_agent(name: str, agent: AgentConfig, allow: Sequence[str]) -> None:
    """Raise ConfigError if the component or a nested component is not trusted."""
    trusted = (*TRUSTED_AGENTS, *allow)
    for provider in _providers(agent.model_dump()):
        if not provider.startswith(trusted):
            raise ConfigError(
                f"[roles.{name}.agent] provider {provider!r} is not trusted: loading it would run "
                f"its code. Trusted prefixes: {', '.join(trusted)}; add yours to [roles.{name}] "
                "allow if you trust it"
            )
    if "model_client" in agent.config:
        raise ConfigError(
            f"[roles.{name}.agent.config] model_client: the model of a role is [llm.{name}], so "
            "that its calls are paid once and its key stays in the environment"
        )


def _providers(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        table = cast(dict[str, Any], value)
        if "provider" in table:
            yield str(table["provider"])
        for part in table.values():
            yield from _providers(part)
    elif isinstance(value, list | tuple):
        for part in cast(Sequence[Any], value):
            yield from _providers(part)


class _Agent(PluginRole):
    """Base class of the three agents; `context.options` is the AgentConfig."""

    Options: ClassVar[type[BaseModel] | None] = AgentConfig

    async def _ask(self, task: str) -> str:
        from autogen_agentchat.messages import TextMessage

        agent = _load(self.context)
        try:
            message = TextMessage(content=task, source="user")
            answer = await agent.on_messages([message], CancellationToken())
        finally:
            await agent.close()
        return answer.chat_message.to_text()


def _load(context: RoleContext) -> ChatAgent:
    from autogen_agentchat.base import ChatAgent

    wanted: AgentConfig = context.options
    name = re.sub(r"\W", "_", context.name)
    config: Json = {"name": name, "description": name, "model_client": CLIENT}
    if wanted.provider == ASSISTANT:
        config |= {"reflect_on_tool_use": False, "tool_call_summary_format": "{result}"}
    client = PluginLlmClient(
        context.llm,
        seed=derive_seed("agent", context.name),
        temperature=wanted.temperature,
        max_tokens=wanted.max_tokens,
    )
    token = LOADING.set(client)
    try:
        component = {"provider": wanted.provider, "component_type": "agent"}
        return ChatAgent.load_component({**component, "config": config | wanted.config})
    finally:
        LOADING.reset(token)


class AgentObserver(_Agent, Observer):
    """Sends each message as JSON to the agent. The answer is the comment."""

    async def read(self, message: AnyMessage, last: str) -> str | Sequence[str] | None:
        """See Observer."""
        previous = f"Your last comment: {last}\n" if last else ""
        return await self._ask(f"{previous}{message.model_dump_json(exclude={'mid', 'parent'})}")


class _Vote(BaseModel):
    item: int
    verdict: Verdict
    text: str = ""
    reason: str = ""


class _Votes(BaseModel):
    judgements: list[_Vote]


class AgentGate(_Agent, Gate):
    """Sends the numbered items to the agent, which answers with judgements as JSON."""

    async def judge(self, message: AnyMessage, items: Sequence[str]) -> Sequence[Judgement]:
        """See Gate."""
        lines = [f"{index}. {one_line(text)}" for index, text in enumerate(items, start=1)]
        task = (
            "Judge each item. Answer with JSON alone: "
            '{"judgements": [{"item": 1, "verdict": "keep", "veto" or "amend", '
            '"text": the new text if you amend, "reason": why}]}\n'
        )
        votes = _parse(_Votes, await self._ask(task + "\n".join(lines)))
        return [
            Judgement(item=v.item - 1, verdict=v.verdict, text=v.text, reason=v.reason)
            for v in votes.judgements
        ]


class _Answer(BaseModel):
    inference: str
    improvement: str
    evidence: list[str] = Field(default_factory=list[str])


class AgentContributor(_Agent, Contributor):
    """Sends the contrast and the evidence to the agent, which answers with a gradient as JSON."""

    async def contribute(self, request: CritiqueRequested) -> Sequence[Gradient]:
        """See Contributor."""
        answer = _parse(_Answer, await self._ask(critique_task(request)))
        return [
            Gradient(
                inference=answer.inference,
                improvement=answer.improvement,
                evidence=tuple(answer.evidence),
                composed=False,
            )
        ]


def critique_task(request: CritiqueRequested) -> str:
    """The task of a contributor as text for a language model."""
    lines = [
        "These rewrites of image prompts were made under one instruction, and their pictures "
        "scored. Say what made the difference, and one improvement of the instruction.",
        f"instruction: {one_line(request.instruction.text)}",
    ]
    sides = (
        ("best", request.best),
        ("worst", request.worst),
        ("professional", request.professional),
    )
    lines += [
        f"{side} ({100 * pair.gain:+.2f}): {one_line(pair.rewrite)[:240]}"
        for side, pair in sides
        if pair is not None
    ]
    lines += [f'{row.id} "{row.term}": {100 * row.effect:+.2f} (n={row.n})' for row in request.rows]
    lines += [f"tried: {one_line(text)}" for text in request.tried]
    lines.append(
        'Answer with JSON alone: {"inference": what made the difference, "improvement": one '
        'sentence that names the terms to add or avoid, "evidence": [ids of the rows it rests on]}'
    )
    return "\n".join(lines)


def _parse(model: type[M], raw: str) -> M:
    """The JSON object within an answer. Raises RoleError if there is none of that shape."""
    found = re.search(r"\{.*\}", raw, re.DOTALL)
    try:
        return model.model_validate(json.loads(found[0] if found else raw))
    except (ValidationError, ValueError, RecursionError) as error:
        raise RoleError(
            f"the agent's answer is not the JSON it was asked for: {raw[:300]}"
        ) from error
