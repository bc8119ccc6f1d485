"""The base of bigpe's own AutoGen model clients: text or JSON out, no tools, no images."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
)

from bigpe.services.core.values import IDEOGRAPHS, LlmUsage


class LlmResult(CreateResult):
    """The result of one call, with what AutoGen's class has no place for."""

    refusal: str | None = None
    """The text of a refusal that the server marks as one."""
    reasoning: str = ""
    """What the model thought, where the server gives it apart from the text."""
    used: LlmUsage = LlmUsage()
    """All token counts of the call."""


class BaseLlmClient(ChatCompletionClient, ABC):
    """A model client without tools and images. A subclass adds `create` and `close`."""

    context_tokens: ClassVar[int]
    """Size of the model's context."""

    def __init__(self) -> None:
        self._used = RequestUsage(prompt_tokens=0, completion_tokens=0)

    def _count(self, usage: RequestUsage) -> None:
        """Add the tokens of one call to the client's total."""
        self._used = RequestUsage(
            prompt_tokens=self._used.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self._used.completion_tokens + usage.completion_tokens,
        )

    async def create_stream(
        self, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The answer as one piece, then the result. Takes the arguments of `create`."""
        result = await self.create(*args, **kwargs)
        yield str(result.content)
        yield result

    def actual_usage(self) -> RequestUsage:
        """Tokens that this client has used."""
        return self._used

    def total_usage(self) -> RequestUsage:
        """Tokens that this client has used."""
        return self._used

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        """An estimate, without a call of the model."""
        return sum(estimated_tokens(str(m.content)) + 4 for m in messages)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        """Tokens of the context that `messages` leave free, estimated; at least 0."""
        return max(0, self.context_tokens - self.count_tokens(messages, tools=tools))

    @property
    def capabilities(self) -> Any:
        """AutoGen's older name of `model_info`."""
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        """Text and JSON."""
        return ModelInfo(
            vision=False,
            function_calling=False,
            json_output=True,
            structured_output=True,
            family=ModelFamily.UNKNOWN,
            multiple_system_messages=True,
        )


_IDEOGRAPH = re.compile(rf"[{IDEOGRAPHS}\uac00-\ud7af]")  # and Hangul
ASCII_PER_TOKEN = 4
"""Characters of English text a token."""
OTHER_PER_TOKEN = 2
"""Characters of other alphabets, such as Cyrillic, a token."""


def estimated_tokens(text: str) -> int:
    """The tokens of `text` without a tokenizer: about 4 ASCII characters, 2 others, 1 ideograph."""
    ideographs, ascii = len(_IDEOGRAPH.findall(text)), sum(map(str.isascii, text))
    others = len(text) - ideographs - ascii
    return ideographs + others // OTHER_PER_TOKEN + ascii // ASCII_PER_TOKEN
