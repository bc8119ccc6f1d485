"""The language model service: any AutoGen model client, called once per distinct request."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from autogen_core import CancellationToken, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from PIL import Image as Pictures
from pydantic import Field

from bigpe.services.core.errors import (
    ConfigError,
    LlmError,
    LostWorkerError,
    QuotaError,
    ServiceError,
    UnusableAnswerError,
)
from bigpe.services.core.outages.access import ServiceAccess
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.values import ONE_CALL, Json, LlmAnswer, LlmUsage, Value, digest, storable
from bigpe.services.llm.base_client import LlmResult
from bigpe.services.llm.config import EMBEDDED, LlmConfig, class_name, client_fingerprint
from bigpe.services.llm.learned import Learned, LearnedServers
from bigpe.services.processes.batch_queue import parallelism_of
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCacheProtocol
from bigpe.services.store.caller_context import (
    current_caller,
    record_answered_usage,
    record_failed_usage,
)

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
    room: int | None = Field(default=None, exclude=True)
    """The output limit that is sent in place of `max_tokens`. No key depends on it, so stored
    answers are found whatever was learned of the model since."""


def few_shot(system: str, examples: Iterable[tuple[str, str]]) -> list[Turn]:
    """The first turns of a request: the system text, then each example as two turns."""
    turns = [Turn(role="system", text=system)]
    for user, assistant in examples:
        turns += [Turn(role="user", text=user), Turn(role="assistant", text=assistant)]
    return turns


@runtime_checkable
class LearningClient(Protocol):
    """A model client that learns what its server refuses."""

    def learn_in(self, learned: LearnedServers) -> None:
        """Keep in `learned` what servers refuse, and go by what stands there."""
        ...

    @property
    def learned(self) -> Learned:
        """What is learned of the model."""
        ...

    async def learn(self, news: Learned) -> None:
        """Add what a probe found."""
        ...


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


@runtime_checkable
class RemembersRoom(Protocol):
    """A language model that remembers how many tokens answers need."""

    def room_of(self, role: str) -> int:
        """The output limit that answers of a role need, tokens; 0 if none was cut."""
        ...

    async def needs_room(self, role: str, tokens: int) -> None:
        """Remember that answers of a role need an output limit of `tokens`."""
        ...


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
        learned: LearnedServers | None = None,
        watch: OutageWatch | None = None,
    ) -> None:
        """`picture`: returns the PNG file of a digest, for requests with images.

        `memory`: which answers of `memo` may be used; None: all. `learned`: what servers refuse and
        can do, and where it is kept; None: in memory. `watch`: how outages are waited for; None:
        not at all. The embedded model has none.
        """
        if learned is not None and isinstance(client, LearningClient):
            client.learn_in(learned)
        self._memory = memory or AnswerMemory()
        self._client = client
        self._memo = memo
        self._picture = picture
        given = config or LlmConfig()
        places = 1 if given.provider == EMBEDDED else given.concurrency
        remote = given.provider != EMBEDDED
        self._access = ServiceAccess(
            f"the language model {given.model_name} at {given.address or given.provider}",
            parallelism_of(client, places),
            watch if remote else None,
        )
        self._config = given
        self.fingerprint = client_fingerprint(client, self._config)

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        """See `LlmClient.ask`. An equal request that was answered before costs nothing."""
        request = self._with_own_settings(request)
        body, key = _body(request), await self._key_of(request)
        try:
            stored = await self._memo.run(
                key, "llm", body, lambda: self._call_in_turn(request, key)
            )
        except LlmError as error:
            record_failed_usage(error.usage)
            raise
        except (LostWorkerError, QuotaError):
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
        return await self._key_of(self._with_own_settings(request))

    async def _key_of(self, request: LlmRequest) -> str:
        key = self.effect_key(request)
        return key if self.deterministic else await self._memory.key_of(key)

    def effect_key(self, request: LlmRequest) -> str:
        """A digest of everything that the answer depends on."""
        parts = {"op": "llm", "version": 1, "model": self.fingerprint, "request": _body(request)}
        return digest(parts)

    def _with_own_settings(self, request: LlmRequest) -> LlmRequest:
        """The request with the user's temperature and output limit in place of the actor's.

        So a request that only asks for a larger limit than the user's is not paid again.
        """
        own = {
            "max_tokens": self.own_limit,
            "temperature": self._config.request_settings.get("temperature"),
        }
        return request.model_copy(update={name: v for name, v in own.items() if v is not None})

    def room_of(self, role: str) -> int:
        """See `RemembersRoom.room_of`. The user's own limit is not raised."""
        learned = self.learned if self.own_limit is None else None
        return learned.room.get(role, 0) if learned else 0

    async def needs_room(self, role: str, tokens: int) -> None:
        """See `RemembersRoom.needs_room`."""
        if self.own_limit is None:
            await self.learn(Learned(room={role: tokens}))

    @property
    def own_limit(self) -> int | None:
        """The user's output limit of each request, tokens; None: actors choose."""
        return self._config.own_limit

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers, by its name or by a probe."""
        return bool(getattr(self._client, "thinks", False))

    @property
    def name(self) -> str:
        """The model's name, for people."""
        return self._config.model_name

    @property
    def learned(self) -> Learned | None:
        """What is learned of the model; None if its client does not learn."""
        return self._client.learned if isinstance(self._client, LearningClient) else None

    @property
    def may_learn_to_see(self) -> bool:
        """Whether neither the user nor an earlier probe says that the model sees no images."""
        learned, stated = self.learned, self._config.vision
        stated = self._config.config.get("model_info", {}).get("vision", stated)
        return learned is not None and None is stated is learned.vision

    async def learn(self, news: Learned) -> None:
        """Keep what a probe found, if the client learns."""
        if isinstance(self._client, LearningClient):
            await self._client.learn(news)

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

    async def _call_in_turn(self, request: LlmRequest, key: str) -> Json:
        """Call the client when it is this request's turn; older rounds go first."""
        spender = current_caller()
        return await self._access.call(
            lambda: self._call(request), spender.round if spender else 0, key
        )

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
        except ConfigError:
            raise  # the server refuses a setting of the user's own
        except Exception as error:
            raise self._explain(error) from error
        answer = _answer(result).model_copy(update={"limit": request.room})
        if len(answer.text) > LONGEST_ANSWER:
            raise UnusableAnswerError(
                f"the model answered with {len(answer.text):,} characters, "
                f"more than {LONGEST_ANSWER:,}",
                raw=answer.text[:LONGEST_ANSWER],
                usage=answer.usage,
            )
        return answer.model_dump(mode="json", exclude={"effect_key"})

    def _show(self, digest: str) -> Image:
        if self._picture is None:
            raise LlmError("this language model service was given no pictures to show")
        return Image.from_pil(Pictures.open(io.BytesIO(self._picture(digest))))

    def _arguments(self, request: LlmRequest) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {
            "seed": request.seed,
            "temperature": request.temperature,
            "max_tokens": request.room or request.max_tokens,
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
        from bigpe.services.llm.failures import CallPlace, to_bigpe_error

        place = CallPlace(
            address=self._config.address or self._config.provider,
            model=self._config.model_name,
            provider=self._config.provider_name,
            key_env=self._config.key_env,
            limit_s=self._config.timeout_s,
        )
        return to_bigpe_error(error, place, lambda text: self._without_key(storable(text)))

    def _without_key(self, text: str) -> str:
        """`text` without the key: some servers repeat it, and failures are stored."""
        key = os.environ.get(self._config.key_env or "OPENAI_API_KEY")
        return text.replace(key, "***") if key else text


def _answer(result: CreateResult) -> LlmAnswer:
    """What the model answered, be it empty."""
    text = storable(result.content) if isinstance(result.content, str) else ""
    used, reason = result.usage, result.finish_reason
    usage = LlmUsage(
        calls=1, prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens
    )
    own = result if isinstance(result, LlmResult) else None
    return LlmAnswer(
        text=text,
        usage=own.used if own else usage,
        finish_reason=reason if reason in ("length", "content_filter") else "stop",
        refusal=storable(own.refusal) if own and own.refusal else None,
        reasoning=storable((own.reasoning if own else result.thought) or "")[:LONGEST_ANSWER],
    )


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
