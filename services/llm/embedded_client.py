"""SmolLM2-135M in a separate process, as an AutoGen model client component.

The model imitates examples and keeps to a JSON schema. It does not follow instructions or reason:
so an instruction carries exemplars, and evidence is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from autogen_core import CancellationToken, Component
from autogen_core.models import CreateResult, LLMMessage, RequestUsage
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel, ConfigDict

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.llm.base_client import BaseLlmClient
from bigpe.services.models.downloads import SMOLLM2_SHA256, smollm2_path
from bigpe.services.models.fingerprints import file_fingerprint
from bigpe.services.processes.cpu import process_cores, processes_for
from bigpe.services.processes.process_pool import ProcessPool
from bigpe.services.processes.supervised_process import SupervisedProcess

BACKEND = "bigpe.services.llm.smollm_process:open_backend"
PER_CALL = ("seed", "temperature", "max_tokens", "stop", "repeat_penalty", "response_format")
DEFAULTS: Json = {"seed": 0, "temperature": 0.7, "max_tokens": 64, "repeat_penalty": 1.0}
CONTEXT_TOKENS = 2048


class EmbeddedLlmConfig(BaseModel):
    """`[llm.NAME.config]` of the embedded model."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    """Path of another GGUF file; None: the file in the user's cache."""
    threads: int = 1
    """CPU threads of each process. Two threads would wait for each other, because the renderer
    shares their cores; more requests start more processes instead."""
    timeout_s: float = 120.0
    """Time limit of one answer, seconds; then the process ends. In bigpe.toml it is
    `[llm.NAME] timeout_s`."""


class EmbeddedLlmClient(BaseLlmClient, Component[EmbeddedLlmConfig]):
    """The embedded LLM: one process from the first request on, more under load."""

    component_type = "model"
    component_config_schema = EmbeddedLlmConfig
    component_provider_override = "bigpe.services.llm.embedded_client.EmbeddedLlmClient"
    context_tokens = CONTEXT_TOKENS

    def __init__(self, config: EmbeddedLlmConfig | None = None) -> None:
        """ConfigError when the weights are not on this machine."""
        super().__init__()
        self._config = config or EmbeddedLlmConfig()
        path = smollm2_path() if self._config.path is None else _own_weights(self._config.path)
        self.fingerprint = SMOLLM2_SHA256 if self._config.path is None else file_fingerprint(path)
        settings = {"path": str(path), "threads": self._config.threads, "context": CONTEXT_TOKENS}
        self.parallelism = processes_for(self._config.threads, process_cores())
        """Requests that are answered at the same time."""
        limit = self._config.timeout_s
        self._children = ProcessPool(
            lambda: SupervisedProcess(BACKEND, settings, name="embedded LLM", call_timeout_s=limit),
            self.parallelism,
        )

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
        self._count(usage)
        return CreateResult(
            finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
            content=str(choice["message"].get("content") or ""),
            usage=usage,
            cached=False,
        )

    async def close(self) -> None:
        """End the model's processes."""
        await self._children.close()

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
