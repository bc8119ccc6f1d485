"""Fast stand-ins for the models: deterministic, keyed by content, with a known taste."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import CreateResult, LLMMessage, RequestUsage

from bigpe.services.llm.base_client import BaseLlmClient
from bigpe.testing.fake_images import (
    BAD_WORDS,
    GOOD_WORDS,
    LIMIT,
    FakeRenderer,
    FakeScorer,
    rng_of,
)

__all__ = ["BAD_WORDS", "GOOD_WORDS", "LIMIT", "FakeLlm", "FakeRenderer", "FakeScorer", "rng_of"]


class FakeLlm(BaseLlmClient):
    """A language model that rewrites by the exemplars of the request.

    A request with a schema gets an object that matches no schema of bigpe, so gradients and
    proposals are composed without a language model. `delay_s` is the duration of each call,
    seconds. `log` is a file that gets one JSON line for each call.
    """

    context_tokens = 2000

    def __init__(self, *, delay_s: float = 0.0, log: Path | None = None) -> None:
        super().__init__()
        self._delay_s = delay_s
        self._log = log

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        tool_choice: Any = "auto",
        json_output: Any = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """Answer. The answer depends only on the messages and the seed."""
        await asyncio.sleep(self._delay_s)
        if self._log is not None:
            with self._log.open("a") as file:
                request = [str(m.content) for m in messages]
                file.write(json.dumps(["llm", request, extra_create_args.get("seed")]) + "\n")
        schema = json_output or extra_create_args.get("response_format")
        text = self._answer(messages, extra_create_args, schema=schema is not None)
        usage = RequestUsage(prompt_tokens=10, completion_tokens=len(text.split()))
        return CreateResult(finish_reason="stop", content=text, usage=usage, cached=False)

    def _answer(
        self, messages: Sequence[LLMMessage], extra: Mapping[str, Any], *, schema: bool
    ) -> str:
        """The text of an answer; `schema`: whether the request has one."""
        return self._schema_answer() if schema else self._rewrite(messages, extra)

    def _rewrite(self, messages: Sequence[LLMMessage], extra: Mapping[str, Any]) -> str:
        rewrites = [str(m.content) for m in messages if m.type == "AssistantMessage"]
        naive = str(messages[-1].content).strip().splitlines()[-1]
        rng = rng_of("rewrite", naive, extra.get("seed"), rewrites)
        tails = [tail for text in rewrites if (tail := text.partition(",")[2].strip())]
        words = [rng.choice(tails)] if tails else []
        if rng.random() < 0.5:
            words.append(rng.choice(GOOD_WORDS + BAD_WORDS) + " look")
        return ", ".join([naive, *words])

    def _schema_answer(self) -> str:
        return json.dumps({"note": "this model words nothing well"})

    async def close(self) -> None:
        """Nothing to close."""
