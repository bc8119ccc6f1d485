"""The language model of a plugin actor: cached and counted, also as an AutoGen model client."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

from autogen_core import CancellationToken, Component
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    LLMMessage,
    RequestUsage,
    SystemMessage,
    UserMessage,
)
from pydantic import BaseModel

from bigpe.agents.plugins import RoleError
from bigpe.agents.plugins.thread import WorkClock
from bigpe.services.core.errors import BigpeError, LlmError, UnusableAnswerError
from bigpe.services.core.values import Json, LlmAnswer, LlmUsage
from bigpe.services.llm.base_client import BaseLlmClient
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn


class Exchange(NamedTuple):
    """A request and its answer."""

    turns: tuple[Turn, ...]
    usage: LlmUsage
    effect_keys: tuple[str, ...] = ()
    """Key of the stored call; empty if the answer could not be used."""


class PluginLlm:
    """A language model service that is called from a plugin's thread. Counts usage per message."""

    def __init__(self, name: str, llm: LlmClient, *, max_calls: int) -> None:
        """Call it in the thread of the run's event loop. `max_calls`: calls per message."""
        self._name = name
        self._llm = llm
        self._max_calls = max_calls
        self._home = asyncio.get_running_loop()
        self._step = contextvars.copy_context()
        self._clock: WorkClock | None = None
        self.exchanges: list[Exchange] = []
        self.usage = LlmUsage()
        """Usage since `begin`."""
        self.calls = 0
        self.fatal: BigpeError | None = None
        """An error that the plugin must not hide, for example of the store."""

    def begin(self, clock: WorkClock | None = None) -> None:
        """Reset the counts at the begin of a message. `clock` pauses while the model answers."""
        self._clock = clock
        self._step = contextvars.copy_context()
        self.exchanges, self.usage, self.calls, self.fatal = [], LlmUsage(), 0, None

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        """See `LlmClient.ask`. Raises RoleError after `max_calls` calls for one message."""
        self.calls += 1
        if self.calls > self._max_calls:
            raise RoleError(
                f"it asked its language model more than {self._max_calls} times for one message; "
                f"raise [roles.{self._name}] max_llm_calls if it may"
            )
        call = asyncio.run_coroutine_threadsafe(self._in_step(request), self._home)
        return await asyncio.wrap_future(call)

    async def discard(self, effect_key: str) -> None:
        """See `LlmClient.discard`."""
        call = asyncio.run_coroutine_threadsafe(self._llm.discard(effect_key), self._home)
        await asyncio.wrap_future(call)

    async def _in_step(self, request: LlmRequest) -> LlmAnswer:
        """Call the model in the context of the actor's step, which the usage belongs to."""
        with self._clock.paused() if self._clock else nullcontext():
            return await asyncio.create_task(self._ask(request), context=self._step)

    async def _ask(self, request: LlmRequest) -> LlmAnswer:
        try:
            answer = await self._llm.ask(request)
        except LlmError as error:
            self.usage += error.usage
            if isinstance(error, UnusableAnswerError):
                self._note(request, error.raw, error.usage)
            raise
        except BigpeError as error:
            self.fatal = error
            raise
        self.usage += answer.usage
        self._note(request, answer.text, answer.usage, answer.effect_key)
        return answer

    def _note(self, request: LlmRequest, text: str, usage: LlmUsage, *effect_keys: str) -> None:
        turns = (*request.turns, Turn(role="assistant", text=text))
        self.exchanges.append(Exchange(turns, usage, effect_keys))


class PluginLlmClientConfig(BaseModel):
    """Empty: `LOADING` holds the client."""


class PluginLlmClient(BaseLlmClient, Component[PluginLlmClientConfig]):
    """A PluginLlm as an AutoGen model client for AgentChat agents: text only, no tools."""

    component_type = "model"
    component_config_schema = PluginLlmClientConfig
    component_provider_override = "bigpe.agents.plugins.llm.PluginLlmClient"
    context_tokens = 8192

    def __init__(self, llm: LlmClient, *, seed: int, temperature: float, max_tokens: int) -> None:
        super().__init__()
        self._llm = llm
        self._settings: Json = {"seed": seed, "temperature": temperature, "max_tokens": max_tokens}

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        tool_choice: Any = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """One answer. Raises RoleError for tools and for content that is not text."""
        if tools:
            raise RoleError("an agent in [roles] has no tools: its model's calls are memoised text")
        schema = json_output.model_json_schema() if isinstance(json_output, type) else None
        request = LlmRequest(
            turns=tuple(_turn(message) for message in messages),
            answer_schema=schema,
            **self._settings,
        )
        answer = await self._llm.ask(request)
        usage = RequestUsage(
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        )
        self._count(usage)
        return CreateResult(finish_reason="stop", content=answer.text, usage=usage, cached=False)

    async def close(self) -> None:
        """Do nothing: the owner of the service closes it."""

    def _to_config(self) -> PluginLlmClientConfig:
        return PluginLlmClientConfig()

    @classmethod
    def _from_config(cls, config: PluginLlmClientConfig) -> Self:
        client = LOADING.get()
        if not isinstance(client, cls):
            raise RoleError("this model client exists only while bigpe loads a role's agent")
        return client


LOADING: ContextVar[PluginLlmClient | None] = ContextVar("bigpe_role_client", default=None)
"""The client of the agent that is being loaded; a component's configuration cannot hold it."""


def _turn(message: LLMMessage) -> Turn:
    if isinstance(message, SystemMessage):
        return Turn(role="system", text=message.content)
    if not isinstance(message.content, str):
        raise RoleError(f"an agent in [roles] can send text only, not a {message.type} of parts")
    if isinstance(message, UserMessage):
        return Turn(role="user", text=message.content)
    if isinstance(message, AssistantMessage):
        return Turn(role="assistant", text=message.content)
    raise RoleError(f"an agent in [roles] cannot send a {message.type}")
