"""What rounds use: images, scores, language model calls, tokens; and what these cost.

A run counts what it *requests*: different images, scores, language model calls and their tokens,
from a model or from the call cache. So a resumed run, and a fork that shares paid calls, makes
the same decisions. The amounts really paid are in the payments of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from bigpe.services.core.values import LlmUsage, Value

Resource = Literal["renders", "scores", "llm_calls", "tokens", "usd"]
RESOURCES: tuple[Resource, ...] = ("renders", "scores", "llm_calls", "tokens", "usd")


class Usage(Value):
    """Resources that a round, or a run, used."""

    renders: int = 0
    """Number of different images requested."""
    scores: int = 0
    llm: dict[str, LlmUsage] = Field(default_factory=dict[str, LlmUsage])
    """Usage of language models by role."""

    @property
    def llm_calls(self) -> int:
        """Language model calls of all roles."""
        return sum(used.calls for used in self.llm.values())

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens of all roles."""
        return sum(used.tokens for used in self.llm.values())

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            renders=self.renders + other.renders,
            scores=self.scores + other.scores,
            llm=_merged(self.llm, other.llm, LlmUsage.__add__),
        )

    def with_llm_of(self, other: Usage) -> Usage:
        """This usage with the larger calls and tokens of both, for each role."""
        return self.model_copy(update={"llm": _merged(self.llm, other.llm, LlmUsage.or_more)})


def of_role(role: str, used: LlmUsage) -> Usage:
    """The usage of the language model calls of `role`."""
    return Usage(llm={role: used} if used.calls else {})


def _merged(
    first: dict[str, LlmUsage],
    second: dict[str, LlmUsage],
    join: Callable[[LlmUsage, LlmUsage], LlmUsage],
) -> dict[str, LlmUsage]:
    joined = {
        role: join(first[role], used) if role in first else used for role, used in second.items()
    }
    return dict(sorted((first | joined).items()))  # sorted: equal usages have equal JSON


class LlmPrice(Value):
    """Prices of a language model."""

    prompt: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD per million prompt tokens."""
    completion: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD per million completion tokens; thoughts are completion tokens."""
    cached: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """USD per million prompt tokens that the server had cached; None: as `prompt`."""

    def usd(self, used: LlmUsage) -> float:
        """The price of the tokens, USD."""
        cached = min(used.cached_tokens, used.prompt_tokens)
        rate = self.prompt if self.cached is None else self.cached
        tokens = (used.prompt_tokens - cached) * self.prompt + cached * rate
        return (tokens + used.completion_tokens * self.completion) / 1e6


FREE = LlmPrice()


class Prices(Value):
    """The prices that a run's plan counts with; 0 for a model on your own machine."""

    llm: dict[str, LlmPrice] = Field(default_factory=dict[str, LlmPrice])
    """By role; "default" for all other roles."""
    render: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD per image."""
    score: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD per score."""

    def usd(self, used: Usage) -> float:
        """The price of `used`, USD. Changed prices apply to the whole run."""
        pictures = used.renders * self.render + used.scores * self.score
        return pictures + sum(self.of_llm(role, tokens) for role, tokens in used.llm.items())

    def of_llm(self, role: str, used: LlmUsage) -> float:
        """The price of the tokens of a role, USD."""
        return (self.llm.get(role) or self.llm.get("default") or FREE).usd(used)


class Limits(Value):
    """The most that a run may use; 0: no limit."""

    renders: int = Field(default=0, ge=0)
    """Distinct images: of naive prompts, rewrites and professional prompts together."""
    scores: int = Field(default=0, ge=0)
    llm_calls: int = Field(default=0, ge=0)
    tokens: int = Field(default=0, ge=0)
    """Language model tokens, prompts and answers together."""
    usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Cost by the prices that `bigpe costs` shows. Every model needs one."""

    def of(self, resource: Resource) -> float:
        """The limit of the resource; 0: none."""
        return getattr(self, resource)


def amount(used: Usage, resource: Resource, prices: Prices) -> float:
    """The quantity of `resource` in `used`."""
    match resource:
        case "renders":
            return used.renders
        case "scores":
            return used.scores
        case "llm_calls":
            return used.llm_calls
        case "tokens":
            return used.tokens
        case "usd":
            return prices.usd(used)
