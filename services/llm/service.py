"""The language model service: any AutoGen model client, called once per distinct request."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from autogen_core import CancellationToken, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from PIL import Image as Pictures
from pydantic import BaseModel, ConfigDict, Field

from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import (
    BigpeError,
    ConfigError,
    LlmError,
    LostWorkerError,
    ServiceError,
    UnusableAnswerError,
)
from bigpe.services.core.values import ONE_CALL, Json, LlmAnswer, LlmUsage, Value, digest, storable
from bigpe.services.llm.priority_semaphore import PrioritySemaphore
from bigpe.services.processes.batch_queue import parallelism_of
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCacheProtocol
from bigpe.services.store.caller_context import (
    current_caller,
    record_answered_usage,
    record_failed_usage,
)

EMBEDDED = "bigpe.services.llm.embedded_client.EmbeddedLlmClient"
TRUSTED_PROVIDERS = ("autogen_ext.models.", "bigpe.services.")
"""Trusted provider prefixes. Loading a component imports code, so others need `allow_providers`."""
LONGEST_ANSWER = 64 * 1024
"""Maximum length of a usable answer, characters."""


class Turn(Value):
    """One message of a request, or an answer."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[str, ...] = ()
    """Digests of images that belong to a user's text, for models that accept images."""


class LlmRequest(Value):
    """A request to a language model. Equal requests to one model are paid once."""

    turns: tuple[Turn, ...] = Field(min_length=1)
    seed: int
    temperature: float = Field(ge=0.0, le=2.0)
    max_tokens: int = Field(ge=1)
    answer_schema: Json | None = None
    """JSON schema of the answer, for models with structured output."""
    stop: tuple[str, ...] = ()


def few_shot(system: str, examples: Iterable[tuple[str, str]]) -> list[Turn]:
    """The first turns of a request: the system text, then each example as two turns."""
    turns = [Turn(role="system", text=system)]
    for user, assistant in examples:
        turns += [Turn(role="user", text=user), Turn(role="assistant", text=assistant)]
    return turns


class LlmConfig(BaseModel):
    """`[llm.NAME]`: an AutoGen model client component."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Annotated[str, AfterStart.NEEDS_FORK] = EMBEDDED
    """Dotted path of the client's class."""
    config: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(default_factory=dict[str, Any])
    """The configuration of the component."""
    api_key_env: Annotated[str | None, AfterStart.CHANGES_NO_RESULT] = None
    """Name of the environment variable with the API key. Files never hold keys."""
    allow_providers: Annotated[tuple[str, ...], AfterStart.CHANGES_NO_RESULT] = ()
    """Further provider prefixes whose code may be loaded."""
    concurrency: Annotated[int, AfterStart.CHANGES_NO_RESULT] = Field(default=16, ge=1, le=1000)
    """Requests in flight; older rounds go first. The embedded model takes one per process."""
    timeout_s: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(default=120.0, gt=0)
    """Time limit of one request, seconds."""


class LlmClient(Protocol):
    """A language model, as actors use it."""

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        """The answer. Raises LlmError; TransientLlmError and UnusableAnswerError may be retried."""
        ...

    async def discard(self, effect_key: str) -> None:
        """Remember that the stored answer with this key cannot be used.

        It is given again to the same run or evaluation, and to no other. A model with weights of
        its own would give the same answer again, so its answers stay.
        """
        ...


def load_client(config: LlmConfig) -> ChatCompletionClient:
    """The model client of the configuration. Raises ConfigError with cause and remedy."""
    allowed = (*TRUSTED_PROVIDERS, *config.allow_providers)
    if not config.provider.startswith(allowed):
        raise ConfigError(
            f"[llm] provider {config.provider!r} is not trusted: loading it would run its code. "
            f"Trusted prefixes: {', '.join(allowed)}; add yours to allow_providers if you trust it"
        )
    if "api_key" in config.config:
        raise ConfigError(
            "[llm] config.api_key: keys do not belong in a file; put the key in an environment "
            "variable and name that variable in api_key_env"
        )
    component = {
        "provider": config.provider,
        "component_type": "model",
        "config": {**config.config, **_secrets(config), **_limits(config)},
    }
    try:
        return ChatCompletionClient.load_component(component)
    except BigpeError:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"[llm] provider {config.provider!r} cannot be loaded: {error}"
        ) from error
    except Exception as error:
        from bigpe.services.llm.failures import refusal  # here: see LlmService._explain

        if (text := refusal(error)) is None:
            raise
        raise ConfigError(f"[llm] {config.provider} refuses its config: {text}") from error


def _secrets(config: LlmConfig) -> dict[str, str]:
    if config.api_key_env is None:
        # Local servers require a key, but ignore its value.
        local = "base_url" in config.config and "OPENAI_API_KEY" not in os.environ
        return {"api_key": "none"} if local else {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ConfigError(
            f"[llm] api_key_env = {config.api_key_env!r}, but that environment variable is not set"
        )
    return {"api_key": key}


def _limits(config: LlmConfig) -> dict[str, Any]:
    if config.provider == EMBEDDED:
        return {"timeout_s": config.timeout_s}
    # bigpe retries by itself, and records each attempt.
    return {"timeout": config.timeout_s, "max_retries": 0}


def class_name(client: ChatCompletionClient) -> str:
    """The name of the client's class in fingerprints.

    A wrapper has an attribute `fingerprint_class`, the name of the class that it wraps.
    """
    return getattr(client, "fingerprint_class", type(client).__qualname__)


def client_fingerprint(client: ChatCompletionClient, config: LlmConfig) -> str:
    """A digest of what an answer depends on besides the request: the model, never the key.

    A client with weights of its own has an attribute `fingerprint`, their digest.
    """
    own = getattr(client, "fingerprint", None)
    public = config.model_dump(
        mode="json", exclude={"api_key_env", "concurrency", "timeout_s", "allow_providers"}
    )
    return digest({"client": class_name(client), "config": public, "model": own})


class LlmService:
    """A model client behind the call cache; raises its failures as LlmError."""

    def __init__(
        self,
        client: ChatCompletionClient,
        memo: CallCacheProtocol,
        *,
        config: LlmConfig | None = None,
        picture: Callable[[str], bytes] | None = None,
        memory: AnswerMemory | None = None,
    ) -> None:
        """`picture`: returns the PNG file of a digest, for requests with images.

        `memory`: which answers of `memo` may be used; None: all.
        """
        self._memory = memory or AnswerMemory()
        self._client = client
        self._memo = memo
        self._picture = picture
        given = config or LlmConfig()
        places = 1 if given.provider == EMBEDDED else given.concurrency
        self._gate = PrioritySemaphore(parallelism_of(client, places))
        self._config = config or LlmConfig()
        self.fingerprint = client_fingerprint(client, self._config)

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        """See `LlmClient.ask`. An equal request that was answered before costs nothing."""
        body, key = _body(request), await self.stored_key(request)
        try:
            stored = await self._memo.run(key, "llm", body, lambda: self._call_in_turn(request))
        except LlmError as error:
            record_failed_usage(error.usage)
            raise
        except LostWorkerError:
            record_failed_usage(ONE_CALL)
            raise
        answer = LlmAnswer.model_validate({**stored, "effect_key": key})
        record_answered_usage(key, answer.usage)
        return answer

    async def discard(self, effect_key: str) -> None:
        """See `LlmClient.discard`."""
        if not self.deterministic:
            await self._memory.discard(effect_key)

    async def stored_key(self, request: LlmRequest) -> str:
        """Key of the stored call. It differs from `effect_key` for an answer that was discarded."""
        key = self.effect_key(request)
        return key if self.deterministic else await self._memory.key_of(key)

    def effect_key(self, request: LlmRequest) -> str:
        """A digest of everything that the answer depends on."""
        parts = {"op": "llm", "version": 1, "model": self.fingerprint, "request": _body(request)}
        return digest(parts)

    @property
    def deterministic(self) -> bool:
        """Whether the model has weights of its own and answers an equal request equally."""
        return getattr(self._client, "fingerprint", None) is not None

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded model, which needs rules of its own."""
        return class_name(self._client) == EMBEDDED.rpartition(".")[2]

    @property
    def sees(self) -> bool:
        """Whether the model accepts images."""
        return self._picture is not None and bool(self._client.model_info.get("vision"))

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()

    async def _call_in_turn(self, request: LlmRequest) -> Json:
        """Call the client when it is this request's turn; older rounds go first."""
        spender = current_caller()
        async with self._gate.passage(spender.round if spender else 0):
            return await self._call(request)

    async def _call(self, request: LlmRequest) -> Json:
        # The client's limit is per read, so a slow stream could block a run forever.
        own_limit = self._config.provider == EMBEDDED
        try:
            async with asyncio.timeout(None if own_limit else self._config.timeout_s):
                result = await self._client.create(
                    _messages(request.turns, self._show),
                    extra_create_args=self._arguments(request),
                    cancellation_token=CancellationToken(),
                )
        except Exception as error:
            raise self._explain(error) from error
        usage = LlmUsage(
            calls=1,
            prompt_tokens=result.usage.prompt_tokens,
            completion_tokens=result.usage.completion_tokens,
        )
        text = storable(result.content) if isinstance(result.content, str) else ""
        if not text.strip():
            raw = str(result.content)
            raise UnusableAnswerError("the model answered with no text", raw=raw, usage=usage)
        if len(text) > LONGEST_ANSWER:
            raise UnusableAnswerError(
                f"the model answered with {len(text):,} characters, more than {LONGEST_ANSWER:,}",
                raw=text[:LONGEST_ANSWER],
                usage=usage,
            )
        answer = LlmAnswer(text=text, usage=usage, finish_reason=result.finish_reason)
        return answer.model_dump(mode="json", exclude={"effect_key"})

    def _show(self, digest: str) -> Image:
        if self._picture is None:
            raise LlmError("this language model service was given no pictures to show")
        return Image.from_pil(Pictures.open(io.BytesIO(self._picture(digest))))

    def _arguments(self, request: LlmRequest) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {
            "seed": request.seed,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
        }
        if request.stop:
            arguments["stop"] = list(request.stop)
        info = self._client.model_info
        if request.answer_schema is not None and info.get("structured_output"):
            # As a dict that the actor validates: so the raw text of a bad answer is kept.
            arguments["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": request.answer_schema},
            }
        elif request.answer_schema is not None and info.get("json_output"):
            arguments["response_format"] = {"type": "json_object"}
        return arguments

    def _explain(self, error: Exception) -> ServiceError:
        # This module imports openai, which takes as long as the rest of a command.
        from bigpe.services.llm.failures import to_bigpe_error

        where = str(self._config.config.get("base_url", self._config.provider))
        text = self._without_key(storable(str(error)))
        return to_bigpe_error(error, where=where, text=text, limit_s=self._config.timeout_s)

    def _without_key(self, text: str) -> str:
        """`text` without the key: some servers repeat it, and failures are stored."""
        key = os.environ.get(self._config.api_key_env or "OPENAI_API_KEY")
        return text.replace(key, "***") if key else text


def _body(request: LlmRequest) -> Json:
    """The stored form of the request."""
    body = request.model_dump(mode="json")
    for turn in body["turns"]:
        if not turn["images"]:
            del turn["images"]  # requests without images keep the keys of older projects
    return body


def _messages(turns: Sequence[Turn], show: Callable[[str], Image]) -> list[LLMMessage]:
    made: list[LLMMessage] = []
    for turn in turns:
        if turn.role == "system":
            made.append(SystemMessage(content=turn.text))
        elif turn.role == "user" and turn.images:
            pictures = [show(image) for image in turn.images]
            made.append(UserMessage(content=[turn.text, *pictures], source="user"))
        elif turn.role == "user":
            made.append(UserMessage(content=turn.text, source="user"))
        else:
            made.append(AssistantMessage(content=turn.text, source="assistant"))
    return made
