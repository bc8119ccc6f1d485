"""Fast stand-ins for renderer and scorer: deterministic, keyed by content, with a known taste.

Apart from bigpe.testing.fakes, because a process that only paints starts quickly without AutoGen.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from collections.abc import Container, Sequence
from pathlib import Path

from PIL import Image as Pictures
from PIL.PngImagePlugin import PngInfo

from bigpe.services.core.errors import ModerationError, RenderError
from bigpe.services.core.values import Image, RenderRequest, Score, ScoreRequest, storable
from bigpe.services.store.blobs import BlobStore

GOOD_WORDS = ("golden", "crisp", "ornate", "vivid")
LIMIT = 20
"""Words of a prompt that the fake scorer reads; the others count as truncated."""
BAD_WORDS = ("murky", "plain", "cluttered")


def rng_of(*parts: object) -> random.Random:
    """A generator that depends on `parts` only."""
    return random.Random(hashlib.sha256(repr(parts).encode()).hexdigest())


class AnyPrompt(Container[str]):
    """A container that contains every prompt."""

    def __contains__(self, prompt: object) -> bool:
        return True


class FakeRenderer:
    """A renderer of images of 8 x 8 pixels, whose colour depends on the request.

    `delay_s` is the duration of each batch, seconds. `log` is a file that gets one JSON line for
    each image.
    """

    takes_negative = True

    async def open(self) -> str:
        """The fingerprint; there is no model to load."""
        return "fake-renderer"

    def __init__(self, blobs: BlobStore, *, delay_s: float = 0.0, log: Path | None = None) -> None:
        self._blobs = blobs
        self._delay_s = delay_s
        self._log = log
        self.broken_prompts: Container[str] = frozenset()
        """Prompts that fail with RenderError. `AnyPrompt()` makes all fail."""
        self.refused_words: frozenset[str] = frozenset()
        """Words of prompts that fail with ModerationError."""

    async def render(self, requests: Sequence[RenderRequest]) -> list[Image | Exception]:
        """See `Renderer.render`."""
        await asyncio.sleep(self._delay_s)
        return [self._one(request) for request in requests]

    def _one(self, request: RenderRequest) -> Image | Exception:
        if request.prompt in self.broken_prompts:
            return RenderError(f"the fake renderer cannot paint {request.prompt!r}")
        if self.refused_words & set(request.prompt.lower().replace(",", " ").split()):
            return ModerationError("the fake renderer refuses the content")
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps(["render", *_parts(request)]) + "\n")
        rng = rng_of("picture", *_parts(request))
        picture = Pictures.new("RGB", (8, 8), tuple(rng.randrange(256) for _ in range(3)))
        # The picture carries its prompt, so that the fake scorer can have a taste.
        buffer = io.BytesIO()
        info = PngInfo()
        info.add_itxt("prompt", storable(request.prompt))
        if request.negative:
            info.add_itxt("negative", storable(request.negative))
        info.add_text("seed", str(request.seed))
        picture.save(buffer, "PNG", pnginfo=info)
        return Image(digest=self._blobs.put(buffer.getvalue()), width=8, height=8)

    async def close(self) -> None:
        """Nothing to close."""


def _parts(request: RenderRequest) -> tuple[object, ...]:
    apart = (request.negative,) if request.negative else ()
    return (request.prompt, request.seed, *apart)


class FakeScorer:
    """A scorer that knows the prompt of a FakeRenderer's image.

    The score is 0.25, plus 0.01 for each word of GOOD_WORDS, minus 0.01 for each word of BAD_WORDS
    in the prompt, plus 0.01 for each word of BAD_WORDS in the negative prompt,
    plus normal noise that depends on the image; `noise` is its standard deviation, score units.
    """

    async def open(self) -> str:
        """The fingerprint; there is no model to load."""
        return "fake-scorer"

    def __init__(self, blobs: BlobStore, *, noise: float = 0.005) -> None:
        self._blobs = blobs
        self._noise = noise

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Exception]:
        """See `Scorer.score`."""
        return [self._one(request) for request in requests]

    def _one(self, request: ScoreRequest) -> Score:
        picture = Pictures.open(io.BytesIO(self._blobs.read(request.image)))
        words = str(picture.info["prompt"]).lower().replace(",", " ").split()
        value = 0.25 + 0.01 * sum(word in words for word in GOOD_WORDS)
        value -= 0.01 * sum(word in words for word in BAD_WORDS)
        absent = str(picture.info.get("negative", "")).split()
        value += 0.01 * sum(word in absent for word in BAD_WORDS)
        value += rng_of("noise", request.image).gauss(0.0, self._noise)
        cut = max(0, len(request.prompt.split()) - LIMIT)
        return Score(value=value, fingerprint="fake-scorer", truncated_tokens=cut)

    async def close(self) -> None:
        """Nothing to close."""
