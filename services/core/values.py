"""Plain values that services exchange: ids, digests, seeds, requests and results.

All are frozen. Ids are content addresses: equal content has an equal id on every machine.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field

IDEOGRAPHS = "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han and kana, for a character class. They are written without spaces between words."""
LONGEST_WORD = 40
"""Characters of the longest word of ordinary text."""
_IN_A_WORD = re.compile(rf"[^\W{IDEOGRAPHS}]")
_LAST_PART = re.compile(rf"[^\W{IDEOGRAPHS}]+$")
Json = dict[str, Any]


class Value(BaseModel):
    """Base of all frozen values. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_empty(text: str) -> bool:
    return not text


NegativePrompt = Annotated[str, Field(exclude_if=_is_empty)]
"""A negative prompt. JSON leaves it out if it is empty, so that the digests of requests without
are those of versions that knew none."""


def canonical_json(value: Any) -> str:
    """The canonical JSON of `value`: sorted keys, no spaces, no NaN or infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """sha256 (hex, 64 characters) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def storable(text: str) -> str:
    """`text` without lone surrogates, which neither UTF-8 nor SQLite can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cut_text(text: str, limit: int) -> str:
    """`text`, at most `limit` characters. A cut is marked by an ellipsis and is between words.

    Only a word of more than `LONGEST_WORD` characters is cut within.
    """
    if len(text) <= limit:
        return text
    head, following = text[: limit - 1], text[limit - 1]
    if _IN_A_WORD.match(following):
        before = _LAST_PART.sub("", head)
        if before.strip() and len(head) - len(before) <= LONGEST_WORD:
            head = before
    return f"{head.rstrip()}…"


def derive_seed(*parts: Any) -> int:
    """A seed in [0, 2**31) that depends only on `parts`."""
    return int(digest(list(parts))[:8], 16) & 0x7FFFFFFF


class Exemplar(Value):
    """A pair (naive prompt, rewrite) that shows a model how to follow an instruction."""

    naive: str
    rewrite: str
    negative: NegativePrompt = ""
    """The negative prompt of the rewrite."""

    @property
    def line(self) -> str:
        """The pair as text; a negative prompt is a line of its own."""
        apart = f"\nNegative prompt: {self.negative}" if self.negative else ""
        return f"{self.naive} -> {self.rewrite}{apart}"


class Instruction(Value):
    """A text, with up to three exemplars, that tells a language model how to rewrite prompts.

    It is frozen. Two instructions with equal content are equal and have the same `id`.
    """

    text: str = Field(min_length=1)
    exemplars: tuple[Exemplar, ...] = Field(default=(), max_length=3)

    @property
    def id(self) -> str:
        """Content address: 64 hex characters. Reports show the first 8."""
        return digest({"instruction": self.model_dump(mode="json")})

    @property
    def with_examples(self) -> str:
        """The text, then the exemplars as lines."""
        lines = [exemplar.line for exemplar in self.exemplars]
        return "\n".join([self.text, "", "Examples:", *lines]) if lines else self.text


class ModelRequest(Value):
    """A request to a renderer or scorer."""

    priority: int = 0
    """Requests with a lower number go first: the round's index."""

    def content(self) -> Json:
        """What the result depends on, as JSON."""
        return self.model_dump(mode="json", exclude={"priority"})


class RenderRequest(ModelRequest):
    """One image. Size, steps and model belong to the renderer, not to the request."""

    prompt: str
    seed: int = Field(ge=0, lt=2**63)
    """Seed of the noise, 0 to 2**63 - 1. Equal prompt and seed give an equal image."""
    negative: NegativePrompt = ""
    """What the image shall not show; replaces the renderer's own negative prompt."""


class Image(Value):
    """An image in the blob store."""

    digest: str
    """sha256 of the PNG file, 64 hex characters."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    truncated_tokens: dict[str, int] = Field(default_factory=dict)
    """Number of prompt tokens that each of the renderer's tokenizers cut off, by tokenizer."""


class ScoreRequest(ModelRequest):
    """One image to rate for one prompt."""

    image: str
    """Digest of the image in the blob store."""
    prompt: str
    """The naive prompt, also for the image of a rewrite."""


class Score(Value):
    """The rating of one image. Scores are comparable only if their fingerprints are equal."""

    value: float = Field(allow_inf_nan=False)
    """Higher is better. Finite; the built-in scorers give a cosine similarity in [-1, 1]."""
    fingerprint: str
    """sha256 of the scorer's weights, preprocessing and formula."""
    truncated_tokens: int = 0
    """Tokens of the prompt past the text encoder's limit (77 for CLIP)."""


class LlmUsage(Value):
    """Calls of a language model and the tokens that they used."""

    calls: int = 0
    """Calls made, answered or not."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """Thoughts: a part of `completion_tokens`, where the server counts them."""
    cached_tokens: int = 0
    """A part of `prompt_tokens` that the server had cached and bills at a lower price."""

    @property
    def tokens(self) -> int:
        """Number of prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: LlmUsage) -> LlmUsage:
        return self._by_field(other, operator.add)

    def __sub__(self, other: LlmUsage) -> LlmUsage:
        return self._by_field(other, operator.sub)

    def or_more(self, other: LlmUsage) -> LlmUsage:
        """The larger value of each field."""
        return self._by_field(other, max)

    def _by_field(self, other: LlmUsage, combine: Callable[[int, int], int]) -> LlmUsage:
        names = LlmUsage.model_fields
        return LlmUsage(**{n: combine(getattr(self, n), getattr(other, n)) for n in names})


ONE_CALL = LlmUsage(calls=1)
"""A call with unknown tokens."""


class LlmAnswer(Value):
    """One answer of a language model."""

    text: str
    """What the model wrote for its reader; empty if it wrote nothing."""
    usage: LlmUsage = LlmUsage()
    finish_reason: str = "stop"
    """Why the model stopped: "stop", "length" or "content_filter"."""
    refusal: str | None = None
    """The text of a refusal that the server marks as one."""
    reasoning: str = ""
    """What the model thought, where the server gives it apart from the text."""
    limit: int | None = None
    """The output limit that was sent in place of the request's, tokens; None: it was the same."""
    effect_key: str = ""
    """Key of the stored call (see `services/store/call_cache.py`); empty: not stored."""


def flat_settings(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of nested tables by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= flat_settings(cast(dict[str, Any], value), f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
