"""What a run may use, what it has used, and whether another round still fits.

A round is counted when it is settled, in the order of rounds, so that a resumed run stops where an
undisturbed one does. For each round in flight, and the next, as much is reserved as the dearest one
so far took, and at least its pictures; what language models cost is not known before the first ones
are settled.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bigpe.services.values import LlmUsage, Value

Resource = Literal["renders", "scores", "llm_calls", "tokens", "usd"]
RESOURCES: tuple[Resource, ...] = ("renders", "scores", "llm_calls", "tokens", "usd")


class Usage(Value):
    """What a round, or a run, used."""

    renders: int = 0
    """Different pictures asked for."""
    scores: int = 0
    llm_calls: int = 0
    tokens: int = 0
    """Prompt and completion tokens together."""
    usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage.model_validate({name: self.of(name) + other.of(name) for name in RESOURCES})

    def of(self, resource: Resource) -> float:
        """How much of it."""
        return getattr(self, resource)

    def or_more(self, other: Usage) -> Usage:
        """The larger of each."""
        return Usage.model_validate(
            {name: max(self.of(name), other.of(name)) for name in RESOURCES}
        )


class LlmPrice(Value):
    """What a language model's provider asks."""

    prompt: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD for a million prompt tokens."""
    completion: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD for a million completion tokens."""


class Prices(Value):
    """`[prices]`: what the models cost; 0 for what runs on your own machine."""

    llm: dict[str, LlmPrice] = Field(default_factory=dict[str, LlmPrice])
    """By role; "default" for the rest."""
    render: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD for a picture."""
    score: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """USD for a score."""

    def of_llm(self, role: str, used: LlmUsage) -> Usage:
        """The usage that `used` tokens of a role's model are."""
        price = self.llm.get(role) or self.llm.get("default") or LlmPrice()
        usd = (used.prompt_tokens * price.prompt + used.completion_tokens * price.completion) / 1e6
        tokens = used.prompt_tokens + used.completion_tokens
        return Usage(llm_calls=used.calls, tokens=tokens, usd=usd)

    def of_pictures(self, renders: int, scores: int) -> Usage:
        """The usage that so many pictures and scores are."""
        usd = renders * self.render + scores * self.score
        return Usage(renders=renders, scores=scores, usd=usd)


class Limits(Value):
    """What a run may use at most; 0: no limit."""

    renders: int = Field(default=0, ge=0)
    scores: int = Field(default=0, ge=0)
    llm_calls: int = Field(default=0, ge=0)
    tokens: int = Field(default=0, ge=0)
    usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def of(self, resource: Resource) -> float:
        """How much of it; 0: any."""
        return getattr(self, resource)


def refusal(limits: Limits, used: Usage, dearest: Usage, in_flight: int) -> str | None:
    """Why no further round may start, or None.

    `used` is what the pilot and all settled rounds took, `dearest` what one round may take.
    """
    for resource in RESOURCES:
        limit, spent = limits.of(resource), used.of(resource)
        reserve = (in_flight + 1) * dearest.of(resource)
        if limit and (spent >= limit or spent + reserve > limit):
            return (
                f"the budget of {limit:,g} {resource.replace('_', ' ')} allows no further round "
                f"({spent:,g} used, {reserve:,g} reserved for the next and those in flight); "
                f"raise [budget] {resource} to go on"
            )
    return None
