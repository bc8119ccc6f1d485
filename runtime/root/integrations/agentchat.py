"""Generator, gradient calculator and modifier as AgentChat agents, for any AgentChat team.

Each is a component: `dump_component` and `load_component` round-trip it with its model client. An
agent answers the last text that it receives and keeps no memory between calls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_core import CancellationToken, Component, ComponentModel
from autogen_core.models import ChatCompletionClient, RequestUsage
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison, fit_evidence_table
from bigpe.agents.messages.core import Gradient
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.evidence_worded.gradient import sample_evidence, word_gradient
from bigpe.agents.reasoning.evidence_worded.instruction import propose
from bigpe.agents.reasoning.interface import Proposal
from bigpe.agents.reasoning.rewriting import rewrite
from bigpe.agents.reasoning.rules import NO_SETTINGS, ReasoningConfig, rewrite_rules, role_rules
from bigpe.services.core.errors import DataError
from bigpe.services.core.values import Instruction, Json, LlmUsage
from bigpe.services.llm.service import LlmService
from bigpe.services.store.call_cache import CachedCall, CallCacheProtocol

RoleName = Literal["generator", "gradient", "modifier"]
_PAIRS = TypeAdapter(tuple[PairedComparison, ...])


class ChatRoleConfig(BaseModel):
    """The configuration of a `ChatRole` as a component. Its fields are the arguments there."""

    name: str
    role: RoleName
    model_client: ComponentModel
    instruction: Instruction
    seed: int = 0
    constraints: Constraints = NONE
    reasoning: ReasoningConfig = NO_SETTINGS


class _NoCallCache(CallCacheProtocol):
    """A call cache that stores nothing, because a chat agent has no project."""

    async def answer(self, wanted: CachedCall) -> Json:
        return await wanted.make()


class ModifierInput(BaseModel):
    """The input of the modifier, as JSON: a gradient and the evidence rows that it cites."""

    gradient: Gradient
    rows: tuple[EvidenceRow, ...] = ()
    professional: tuple[str, ...] = ()
    """Professional prompts, best first."""
    living: tuple[Instruction, ...] = Field(default=())
    """Existing instructions. A near-copy of one is refused."""


class _Answer(BaseModel):
    text: str
    usage: LlmUsage


class ChatRole(BaseChatAgent, Component[ChatRoleConfig]):
    """An actor of bigpe as a member of an AgentChat team.

    - generator: takes a naive prompt, answers with its rewrite under the instruction.
    - gradient: takes a JSON list of `PairedComparison`, answers with a gradient and its rows.
    - modifier: takes a `ModifierInput` as JSON (the gradient's answer is one), answers with the new
      instruction as JSON.

    Args:
        name: Name of the agent in its team.
        role: Which of the three.
        model_client: The language model.
        instruction: The instruction to rewrite under, or to improve.
        seed: Equal seeds give equal answers, if the model obeys seeds.
        constraints: Rules for rewrites and proposals.
        reasoning: Limits of the requests, and names that rewrites keep.
    """

    component_config_schema = ChatRoleConfig
    component_provider_override = "bigpe.integrations.agentchat.ChatRole"

    def __init__(
        self,
        name: str,
        role: RoleName,
        model_client: ChatCompletionClient,
        instruction: Instruction,
        *,
        seed: int = 0,
        constraints: Constraints = NONE,
        reasoning: ReasoningConfig = NO_SETTINGS,
    ) -> None:
        super().__init__(name, description=f"bigpe's {role}")
        self._role: RoleName = role
        self._client = model_client
        self._instruction = instruction
        self._seed = seed
        self._constraints = constraints
        self._limits = reasoning
        self._llm = LlmService(model_client, _NoCallCache())
        self._lock = asyncio.Lock()

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        """Text only."""
        return (TextMessage,)

    async def on_messages(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> Response:
        """Answer the last message; all others are ignored.

        Raises:
            DataError: The message is not of the form that the role takes, or there is none.
            ServiceError: The language model fails.
        """
        if not messages:
            raise DataError(f"{self.name} needs a message to answer")
        work = {"generator": self._generate, "gradient": self._explain, "modifier": self._modify}
        async with self._lock:
            answer = await work[self._role](messages[-1].to_text())
        usage = RequestUsage(
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        )
        message = TextMessage(source=self.name, content=answer.text, models_usage=usage)
        return Response(chat_message=message)

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        """Do nothing: the agent keeps no state between messages."""

    async def close(self) -> None:
        """Close the model client."""
        await self._llm.close()

    async def _generate(self, text: str) -> _Answer:
        naive = text.strip()
        rules = rewrite_rules(self._llm, self._limits)
        done = await rewrite(
            self._llm, self._instruction, naive, self._seed, self._constraints, rules
        )
        return _Answer(text=done.text, usage=done.usage)

    async def _explain(self, text: str) -> _Answer:
        pairs = _parse(_PAIRS.validate_json, text, "a JSON list of pairs")
        rows = fit_evidence_table(pairs)
        focus = sample_evidence(rows, self._instruction, count=1, seed=self._seed)[0]
        ordered = sorted(pairs, key=lambda pair: pair.gain)
        best, worst = (ordered[-1], ordered[0]) if ordered else (None, None)
        rules = role_rules("gradient", self._llm, self._limits)
        worded = await word_gradient(self._llm, focus, best, worst, None, self._seed, (), rules)
        gradient = Gradient.model_validate(worded.model_dump(include=set(Gradient.model_fields)))
        output = ModifierInput(gradient=gradient, rows=rows)
        return _Answer(text=output.model_dump_json(), usage=worded.usage)

    async def _modify(self, text: str) -> _Answer:
        wanted = _parse(ModifierInput.model_validate_json, text, "a gradient with its rows")
        made = await propose(
            self._llm,
            wanted.gradient,
            wanted.rows,
            parent=self._instruction,
            professional=wanted.professional,
            pairs=(),
            living=wanted.living,
            batch_prompts=(),
            seed=self._seed,
            constraints=self._constraints,
            rules=role_rules("modifier", self._llm, self._limits),
        )
        if isinstance(made, Proposal):
            return _Answer(text=made.instruction.model_dump_json(), usage=made.usage)
        return _Answer(text=json.dumps({"refused": list(made.reasons)}), usage=made.usage)

    def _to_config(self) -> ChatRoleConfig:
        return ChatRoleConfig(
            name=self.name,
            role=self._role,
            model_client=self._client.dump_component(),
            instruction=self._instruction,
            seed=self._seed,
            constraints=self._constraints,
            reasoning=self._limits,
        )

    @classmethod
    def _from_config(cls, config: ChatRoleConfig) -> Self:
        client = ChatCompletionClient.load_component(config.model_client)
        return cls(
            config.name,
            config.role,
            client,
            config.instruction,
            seed=config.seed,
            constraints=config.constraints,
            reasoning=config.reasoning,
        )


def _parse(read: Callable[[str], Any], text: str, wanted: str) -> Any:
    try:
        return read(text)
    except ValidationError as error:
        raise DataError(f"this role takes {wanted}: {error.errors()[0]['msg']}") from error


def as_chat_agent(
    role: RoleName,
    model_client: ChatCompletionClient,
    instruction: Instruction,
    *,
    name: str | None = None,
    seed: int = 0,
    constraints: Constraints = NONE,
) -> ChatRole:
    """A `ChatRole`, whose arguments these are. Without `name` it is called as its role."""
    return ChatRole(
        name or role, role, model_client, instruction, seed=seed, constraints=constraints
    )
