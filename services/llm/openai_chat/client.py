"""The client of every server that speaks OpenAI's chat completions, as an AutoGen component.

What a server refuses by naming it is left out, renamed or loosened, and the request is repeated at
once. What was learned is kept for the model and its address.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, cast

import openai
from autogen_core import CancellationToken, Component
from autogen_core.models import LLMMessage, ModelInfo
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Json
from bigpe.services.llm.base_client import BaseLlmClient, LlmResult
from bigpe.services.llm.learned import Learned, LearnedServers, SchemaKind
from bigpe.services.llm.openai_chat.completion import filtered, read_completion
from bigpe.services.llm.openai_chat.refusals import OwnSetting, lesson_of
from bigpe.services.llm.openai_chat.request import RequestRules
from bigpe.services.llm.openai_chat.server_words import HttpFailure
from bigpe.services.llm.providers import rules_for

CONTEXT_TOKENS = 128_000
"""An assumption, for AutoGen's estimates only: servers do not tell the size of a context."""
MOST_LESSONS = 16
"""Bounds the repeats of a request. A request has fewer parts than that."""
FILTERED = re.compile(
    r"\"(?:content_filter|content_policy_violation|ResponsibleAIPolicyViolation|moderation_blocked"
    r"|data_inspection_failed|sensitive\w*|1301)\"|content management policy|content polic"
    r"|inappropriate content|requires moderation|(?:was|been) flagged|safety (?:system|policy)",
    re.IGNORECASE,
)
"""Codes and words of a content filter that refuses a request."""
FILTER_STATUSES = frozenset({400, 403, 422, 451})


class OpenAiChatConfig(BaseModel):
    """The component's configuration. `services/llm/service.py` makes it from `[llm.NAME]`."""

    model_config = ConfigDict(extra="forbid")

    model: str
    """The model's name at its server."""
    provider: str = "openai-compatible"
    """The row of `PROVIDERS` whose rules hold."""
    base_url: str | None = None
    """The address; None: OpenAI's own."""
    api_key: SecretStr
    timeout: float = 120.0
    """Time limit of one request, seconds."""
    default_headers: dict[str, str] = Field(default_factory=dict[str, str])
    organization: str | None = None
    azure_endpoint: str | None = None
    """The address of an Azure resource, for the API with versions."""
    azure_deployment: str | None = None
    api_version: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """The user's own parameters of each request."""
    model_info: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Abilities that the user states, by AutoGen's names."""
    vision: bool | None = None
    """Whether the model sees pictures, as the user states; None: by its name."""

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        for name in ("temperature", "max_tokens", "max_completion_tokens", "top_p"):
            value = self.settings.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} = {value!r} is not a number")
        return self


class OpenAiChatClient(BaseLlmClient, Component[OpenAiChatConfig]):
    """Answers by chat completions of one model at one address."""

    component_type = "model"
    component_config_schema = OpenAiChatConfig
    component_provider_override = "bigpe.services.llm.openai_chat.client.OpenAiChatClient"
    context_tokens = CONTEXT_TOKENS
    fingerprint_class = "OpenAIChatCompletionClient"
    """As AutoGen's client, so that what was paid through it stays paid."""

    def __init__(self, config: OpenAiChatConfig) -> None:
        super().__init__()
        self._config = config
        self._server = _server(config)
        self.base_url = str(self._server.base_url).rstrip("/")
        info = config.model_info
        self._form = RequestRules(
            model=config.model,
            rules=rules_for(config.provider, config.model),
            settings=config.settings,
            schema_kind=_stated_kind(info),
        )
        self._learned = LearnedServers()
        self._one_learns = asyncio.Lock()

    def learn_in(self, learned: LearnedServers) -> None:
        """Keep in `learned` what servers refuse, and go by what stands there."""
        self._learned = learned

    @property
    def learned(self) -> Learned:
        """What is learned of the model."""
        return self._learned.of(self.base_url, self._config.model)

    async def learn(self, news: Learned) -> None:
        """Add what a probe found."""
        await self._learned.add(self.base_url, self._config.model, news)

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers: by a probe, else by its name."""
        found = self.learned.thinks
        return self._form.rules.thinks if found is None else found

    @property
    def model_info(self) -> ModelInfo:
        """Abilities: the user's word, else what was learned, else by the name."""
        stated = self._config.vision
        if stated is None:
            stated = self._config.model_info.get("vision")
        if stated is None:
            stated = self.learned.vision
        sees = self._form.rules.vision if stated is None else bool(stated)
        return cast(ModelInfo, {**super().model_info, "vision": sees})

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> LlmResult:
        """One answer.

        Raises HttpFailure, NoCompletion and `openai.APIConnectionError`; ConfigError if the server
        refuses a setting of the user's own; ValueError for tools.
        """
        if tools:
            raise ValueError("this client calls no tools")
        wishes = {**_format(json_output), **extra_create_args}
        call = asyncio.ensure_future(self._answer(messages, wishes))
        if cancellation_token is not None:
            cancellation_token.link_future(call)
        result = await call
        self._count(result.usage)
        return result

    async def _answer(self, messages: Sequence[LLMMessage], wishes: Mapping[str, Any]) -> LlmResult:
        used = self.learned
        body = self._form.body(messages, wishes, used)
        try:
            return await self._post(body)
        except HttpFailure as failure:
            news = self._lesson(failure, body, used)
            if news is None:
                raise
        # One request learns; the others wait, and then go by what it learned.
        async with self._one_learns:
            lesson = used.joined(news) if self.learned == used else self.learned
            return await self._negotiate(messages, wishes, lesson)

    async def _negotiate(
        self, messages: Sequence[LLMMessage], wishes: Mapping[str, Any], lesson: Learned
    ) -> LlmResult:
        """Repeat the request until the server takes it; keep what was learned if it does."""
        for _ in range(MOST_LESSONS):
            body = self._form.body(messages, wishes, lesson)
            try:
                result = await self._post(body)
            except HttpFailure as failure:
                news = self._lesson(failure, body, lesson)
                if news is None or lesson.joined(news) == lesson:
                    raise
                lesson = lesson.joined(news)
                continue
            await self._learned.add(self.base_url, self._config.model, lesson)
            return result
        raise ConfigError(f"{self.base_url} refuses one part of a request after the other")

    def _lesson(self, failure: HttpFailure, body: Json, used: Learned) -> Learned | None:
        try:
            return lesson_of(failure, body, frozenset(self._config.settings), used)
        except OwnSetting as own:
            name = str(own)
            raise ConfigError(
                f"{self.base_url} refuses your own setting {name} = "
                f"{self._config.settings[name]!r} for {self._config.model}: {failure.words}; "
                f"change {name} in [llm], or take it out"
            ) from failure

    async def _post(self, body: Json) -> LlmResult:
        fields = {key: value for key, value in body.items() if key not in ("model", "messages")}
        try:
            raw = await self._server.chat.completions.with_raw_response.create(
                model=body["model"], messages=body["messages"], extra_body=fields
            )
        except openai.APIStatusError as error:
            text = error.response.text
            if error.status_code in FILTER_STATUSES and FILTERED.search(text):
                failure = HttpFailure(error.status_code, text)
                return filtered(failure.words)
            raise HttpFailure(error.status_code, text, error.response.headers) from error
        answer = raw.http_response
        return read_completion(answer.text, answer.headers.get("content-type", ""), answer.headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    def _to_config(self) -> OpenAiChatConfig:
        return self._config

    @classmethod
    def _from_config(cls, config: OpenAiChatConfig) -> Self:
        return cls(config)


def _server(config: OpenAiChatConfig) -> openai.AsyncOpenAI:
    common: dict[str, Any] = {
        "api_key": config.api_key.get_secret_value(),
        "timeout": config.timeout,
        "max_retries": 0,  # bigpe retries by itself, and records each attempt
        "default_headers": config.default_headers,
    }
    if config.azure_endpoint is not None:
        return openai.AsyncAzureOpenAI(
            azure_endpoint=config.azure_endpoint,
            azure_deployment=config.azure_deployment,
            api_version=config.api_version,
            **common,
        )
    return openai.AsyncOpenAI(base_url=config.base_url, organization=config.organization, **common)


def _stated_kind(info: Mapping[str, Any]) -> SchemaKind | None:
    """The strictest kind that the user's `model_info` allows."""
    if info.get("json_output") is False and not info.get("structured_output"):
        return "text"
    return "json_object" if info.get("structured_output") is False else None


def _format(json_output: bool | type[BaseModel] | None) -> Json:
    if json_output is None or json_output is False:
        return {}
    if json_output is True:
        return {"response_format": {"type": "json_object"}}
    named = {"name": "answer", "schema": json_output.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": named}}
