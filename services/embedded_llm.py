"""SmolLM2-135M in a process of its own, as an AutoGen model client component.

It writes in the manner of examples and keeps to a JSON schema; it does not follow instructions
or reason. That is why an instruction carries exemplars, and why evidence is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from autogen_core import CancellationToken, Component
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel, ConfigDict

from bigpe.services.child import Child
from bigpe.services.children import Children
from bigpe.services.cores import process_cores, processes_for
from bigpe.services.errors import ConfigError
from bigpe.services.fingerprints import file_fingerprint
from bigpe.services.models import SMOLLM2_SHA256, smollm2_path
from bigpe.services.values import Json

BACKEND = "bigpe.services.smollm_backend:open_backend"
PER_CALL = ("seed", "temperature", "max_tokens", "stop", "repeat_penalty", "response_format")
DEFAULTS: Json = {"seed": 0, "temperature": 0.7, "max_tokens": 64, "repeat_penalty": 1.0}
CONTEXT_TOKENS = 2048
CHARACTERS_A_TOKEN = 4


class EmbeddedLlmConfig(BaseModel):
    """`[llm.NAME.config]` of the embedded model."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    """Another GGUF file; default: the one in the user's cache."""
    threads: int = 1
    """CPU threads of a process. One: two would wait for each other where the picture model shares
    their cores, and there are as many processes as there is work for."""
    timeout_s: float = 120.0
    """For one answer; then the process is ended. In bigpe.toml: `[llm.NAME] timeout_s`."""


class EmbeddedLlmClient(ChatCompletionClient, Component[EmbeddedLlmConfig]):
    """The embedded LLM: a process from the first request on, more when one is not enough."""

    component_type = "model"
    component_config_schema = EmbeddedLlmConfig
    component_provider_override = "bigpe.services.embedded_llm.EmbeddedLlmClient"

    def __init__(self, config: EmbeddedLlmConfig | None = None) -> None:
        """ConfigError when the weights are not here."""
        self._config = config or EmbeddedLlmConfig()
        path = smollm2_path() if self._config.path is None else _own_weights(self._config.path)
        self.fingerprint = SMOLLM2_SHA256 if self._config.path is None else file_fingerprint(path)
        settings = {"path": str(path), "threads": self._config.threads, "context": CONTEXT_TOKENS}
        self.lanes = processes_for(self._config.threads, process_cores())
        """Requests that it answers side by side."""
        limit = self._config.timeout_s
        self._children = Children(
            lambda: Child(BACKEND, settings, name="embedded LLM", call_timeout_s=limit), self.lanes
        )
        self._usage = RequestUsage(prompt_tokens=0, completion_tokens=0)

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """One answer. ValueError for tools and for unknown per-call arguments."""
        if tools:
            raise ValueError("the embedded LLM calls no tools")
        unknown = sorted(set(extra_create_args) - set(PER_CALL))
        if unknown:
            raise ValueError(f"unknown arguments for the embedded LLM: {', '.join(unknown)}")
        request = DEFAULTS | {"messages": [_wire(m) for m in messages]} | _format(json_output)
        call = asyncio.ensure_future(self._children.call("chat", request | dict(extra_create_args)))
        if cancellation_token is not None:
            cancellation_token.link_future(call)
        answer = await call
        return self._result(answer)

    def _result(self, answer: Json) -> CreateResult:
        choice, used = answer["choices"][0], answer.get("usage", {})
        usage = RequestUsage(
            prompt_tokens=int(used.get("prompt_tokens", 0)),
            completion_tokens=int(used.get("completion_tokens", 0)),
        )
        self._usage = RequestUsage(
            prompt_tokens=self._usage.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens + usage.completion_tokens,
        )
        return CreateResult(
            finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
            content=str(choice["message"].get("content") or ""),
            usage=usage,
            cached=False,
        )

    async def create_stream(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The answer as one piece, then the result: answers are a line long."""
        result = await self.create(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            json_output=json_output,
            extra_create_args=extra_create_args,
            cancellation_token=cancellation_token,
        )
        yield str(result.content)
        yield result

    async def close(self) -> None:
        """End the model's processes."""
        await self._children.close()

    def actual_usage(self) -> RequestUsage:
        """Tokens used so far."""
        return self._usage

    def total_usage(self) -> RequestUsage:
        """Tokens used so far."""
        return self._usage

    def count_tokens(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()
    ) -> int:
        """An estimate, without asking the model."""
        return sum(len(str(m.content)) // CHARACTERS_A_TOKEN + 4 for m in messages)

    def remaining_tokens(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()
    ) -> int:
        """What is left of the context, estimated."""
        return CONTEXT_TOKENS - self.count_tokens(messages, tools=tools)

    @property
    def capabilities(self) -> Any:
        """The older name of `model_info`."""
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        """What the model can do."""
        return ModelInfo(
            vision=False,
            function_calling=False,
            json_output=True,
            structured_output=True,
            family=ModelFamily.UNKNOWN,
            multiple_system_messages=True,
        )

    def _to_config(self) -> EmbeddedLlmConfig:
        return self._config

    @classmethod
    def _from_config(cls, config: EmbeddedLlmConfig) -> Self:
        return cls(config)


def _own_weights(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"[llm] config.path: there is no file {path}; correct it, or leave it out to use the "
            "embedded model (`bigpe models pull smollm2` fetches that)"
        )
    return path


def _wire(message: LLMMessage) -> dict[str, str]:
    roles = {"SystemMessage": "system", "UserMessage": "user", "AssistantMessage": "assistant"}
    if message.type not in roles:
        raise ValueError(f"the embedded LLM takes no {message.type}")
    if isinstance(message.content, str):
        return {"role": roles[message.type], "content": message.content}
    if not all(isinstance(part, str) for part in message.content):
        raise ValueError("the embedded LLM sees no pictures and calls no functions")
    return {"role": roles[message.type], "content": "\n".join(str(p) for p in message.content)}


def _format(json_output: bool | type[BaseModel] | None) -> Json:
    if json_output is None or json_output is False:
        return {}
    if json_output is True:
        return {"response_format": {"type": "json_object"}}
    schema = {"name": json_output.__name__, "schema": json_output.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
