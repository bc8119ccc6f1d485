"""Fast stand-ins for the models: deterministic, keyed by content, with a known taste."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
)
from PIL import Image as Pictures

from bigpe.services.blobs import BlobStore
from bigpe.services.errors import RenderError
from bigpe.services.values import Image, RenderRequest, Score, ScoreRequest

GOOD_WORDS = ("golden", "crisp", "ornate", "vivid")
LIMIT = 20
"""Words of a prompt that the fake scorer reads."""
BAD_WORDS = ("murky", "plain", "cluttered")


def rng_of(*parts: object) -> random.Random:
    """A generator that depends on `parts` only."""
    return random.Random(hashlib.sha256(repr(parts).encode()).hexdigest())


class FakeRenderer:
    """Writes a one-pixel picture whose colour depends on prompt and seed."""

    async def open(self) -> str:
        return "fake-renderer"

    def __init__(self, blobs: BlobStore, *, delay_s: float = 0.0, log: Path | None = None) -> None:
        self._blobs = blobs
        self._delay_s = delay_s
        self._log = log
        self.broken_prompts: set[str] = set()

    async def render(self, requests: Sequence[RenderRequest]) -> list[Image | Exception]:
        await asyncio.sleep(self._delay_s)
        return [self._one(request) for request in requests]

    def _one(self, request: RenderRequest) -> Image | Exception:
        if request.prompt in self.broken_prompts:
            return RenderError(f"the fake renderer cannot paint {request.prompt!r}")
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps(["render", request.prompt, request.seed]) + "\n")
        rng = rng_of("picture", request.prompt, request.seed)
        picture = Pictures.new("RGB", (8, 8), tuple(rng.randrange(256) for _ in range(3)))
        # The picture carries its prompt, so that the fake scorer can have a taste.
        buffer = io.BytesIO()
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("prompt", request.prompt.encode("latin-1", "replace").decode("latin-1"))
        info.add_text("seed", str(request.seed))
        picture.save(buffer, "PNG", pnginfo=info)
        return Image(digest=self._blobs.put(buffer.getvalue()), width=8, height=8)

    async def close(self) -> None:
        """Nothing to close."""


class FakeScorer:
    """Likes some words and not others, with noise that depends on the picture."""

    async def open(self) -> str:
        return "fake-scorer"

    def __init__(self, blobs: BlobStore, *, noise: float = 0.005) -> None:
        self._blobs = blobs
        self._noise = noise

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Exception]:
        return [self._one(request) for request in requests]

    def _one(self, request: ScoreRequest) -> Score:
        picture = Pictures.open(io.BytesIO(self._blobs.read(request.image)))
        words = str(picture.info["prompt"]).lower().replace(",", " ").split()
        value = 0.25 + 0.01 * sum(word in words for word in GOOD_WORDS)
        value -= 0.01 * sum(word in words for word in BAD_WORDS)
        value += rng_of("noise", request.image).gauss(0.0, self._noise)
        cut = max(0, len(request.prompt.split()) - LIMIT)
        return Score(value=value, fingerprint="fake-scorer", truncated_tokens=cut)

    async def close(self) -> None:
        """Nothing to close."""


class FakeLlm(ChatCompletionClient):
    """Rewrites by the exemplars that it is shown; answers a schema with an object of its shape."""

    def __init__(self, *, delay_s: float = 0.0, log: Path | None = None) -> None:
        self._delay_s = delay_s
        self._log = log
        self._usage = RequestUsage(prompt_tokens=0, completion_tokens=0)

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
        await asyncio.sleep(self._delay_s)
        if self._log is not None:
            with self._log.open("a") as file:
                request = [str(m.content) for m in messages]
                file.write(json.dumps(["llm", request, extra_create_args.get("seed")]) + "\n")
        schema = json_output or extra_create_args.get("response_format")
        text = self._schema_answer() if schema else self._rewrite(messages, extra_create_args)
        usage = RequestUsage(prompt_tokens=10, completion_tokens=len(text.split()))
        return CreateResult(finish_reason="stop", content=text, usage=usage, cached=False)

    def _rewrite(self, messages: Sequence[LLMMessage], extra: Mapping[str, Any]) -> str:
        shown = [str(m.content) for m in messages if m.type == "AssistantMessage"]
        naive = str(messages[-1].content).strip().splitlines()[-1]
        rng = rng_of("rewrite", naive, extra.get("seed"), shown)
        tails = [tail for text in shown if (tail := text.partition(",")[2].strip())]
        words = [rng.choice(tails)] if tails else []
        if rng.random() < 0.5:
            words.append(rng.choice(GOOD_WORDS + BAD_WORDS) + " look")
        return ", ".join([naive, *words])

    def _schema_answer(self) -> str:
        return json.dumps({"note": "this model words nothing well"})

    async def create_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield await self.create(*args, **kwargs)

    async def close(self) -> None:
        """Nothing to close."""

    def actual_usage(self) -> RequestUsage:
        return self._usage

    def total_usage(self) -> RequestUsage:
        return self._usage

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        return sum(len(str(m.content).split()) for m in messages)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        return 2000

    @property
    def capabilities(self) -> Any:
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return ModelInfo(
            vision=False,
            function_calling=False,
            json_output=True,
            structured_output=True,
            family=ModelFamily.UNKNOWN,
            multiple_system_messages=True,
        )
