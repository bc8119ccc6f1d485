"""What a run may use, what it has used, and whether another round still fits.

A run counts what it *asks for*: different pictures, scores, language model calls and their tokens,
whether a model answered or the memo did. So a resumed run, or a fork that shares what was paid,
decides as the first did; what was really paid stands in the store's payments.

A round is counted when it is settled, in the order of rounds, so that a budget ends a run at the
same round however its answers arrived. For each round in flight, and the next, its pictures and
the calls that it may make are reserved; its tokens by the dearest round so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field

from bigpe.services.values import LlmUsage, Value

Resource = Literal["renders", "scores", "llm_calls", "tokens", "usd"]
RESOURCES: tuple[Resource, ...] = ("renders", "scores", "llm_calls", "tokens", "usd")
ROUNDING = 1e-9
"""By which share of a limit a sum of prices may pass it: what adding floats may do."""


class Usage(Value):
    """What a round, or a run, used."""

    renders: int = 0
    """Different pictures asked for."""
    scores: int = 0
    llm: dict[str, LlmUsage] = Field(default_factory=dict[str, LlmUsage])
    """By role."""

    @property
    def llm_calls(self) -> int:
        """Of language models, by all roles."""
        return sum(used.calls for used in self.llm.values())

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together, of all roles."""
        return sum(used.tokens for used in self.llm.values())

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            renders=self.renders + other.renders,
            scores=self.scores + other.scores,
            llm=_merged(self.llm, other.llm, LlmUsage.__add__),
        )

    def with_llm_of(self, other: Usage) -> Usage:
        """The same pictures, and of each role's calls and tokens the larger."""
        return self.model_copy(update={"llm": _merged(self.llm, other.llm, LlmUsage.or_more)})


def of_role(role: str, used: LlmUsage) -> Usage:
    """What one role's calls are."""
    return Usage(llm={role: used} if used.calls else {})


def _merged(
    one: dict[str, LlmUsage],
    other: dict[str, LlmUsage],
    join: Callable[[LlmUsage, LlmUsage], LlmUsage],
) -> dict[str, LlmUsage]:
    joined = {role: join(one[role], used) if role in one else used for role, used in other.items()}
    return dict(sorted((one | joined).items()))  # whoever came first, the same text


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

    def usd(self, used: Usage) -> float:
        """What `used` costs. A change of prices holds for all that the run has used."""
        pictures = used.renders * self.render + used.scores * self.score
        return pictures + sum(self.of_llm(role, tokens) for role, tokens in used.llm.items())

    def of_llm(self, role: str, used: LlmUsage) -> float:
        """What a role's tokens cost, USD."""
        price = self.llm.get(role) or self.llm.get("default") or LlmPrice()
        return (used.prompt_tokens * price.prompt + used.completion_tokens * price.completion) / 1e6


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


def amount(used: Usage, resource: Resource, prices: Prices) -> float:
    """How much of the resource it is."""
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


def refusal(
    limits: Limits, prices: Prices, used: Usage, reserved: Usage, what: str = "further round"
) -> str | None:
    """Why `what` may not start, or None.

    `used` is what was settled, `reserved` what those in flight and the next one may take.
    """
    for resource in RESOURCES:
        limit, spent = limits.of(resource), amount(used, resource, prices)
        wanted = amount(reserved, resource, prices)
        if limit and (spent >= limit or spent + wanted > limit * (1 + ROUNDING)):
            return (
                f"the budget of {limit:,.10g} {resource.replace('_', ' ')} allows no {what} "
                f"({spent:,.10g} used, up to {wanted:,.10g} for the next); "
                f"raise [budget] {resource} to go on"
            )
    return None


class Forecast(NamedTuple):
    """How a run is expected to end, if it goes on as it did."""

    rounds: int
    """When it ends, by its rounds or by a limit."""
    used: dict[Resource, float]
    """By then."""
    limit: Resource | Literal["minutes"] | None
    """What ends it; None: its rounds."""


def forecast(
    used: Usage, applied: int, rounds: int, limits: Limits, prices: Prices, pilot: int = 0
) -> Forecast | None:
    """By the mean of the rounds that are over; None before the first.

    `pilot`: how many of the pictures were painted before the first round. It rather overstates:
    naive pictures are shared, so rounds get cheaper.
    """
    if not applied:
        return None
    before = Usage(renders=min(pilot, used.renders), scores=min(pilot, used.scores))
    inside = used.model_copy(
        update={"renders": used.renders - before.renders, "scores": used.scores - before.scores}
    )
    first = {resource: amount(before, resource, prices) for resource in RESOURCES}
    each = {resource: amount(inside, resource, prices) / applied for resource in RESOURCES}
    end, limit = max(rounds, applied), None
    for resource in RESOURCES:
        most = limits.of(resource)
        if most and each[resource]:
            fits = int((most - first[resource]) / each[resource])
            if fits < end:
                end, limit = max(fits, applied), resource
    return Forecast(end, {r: first[r] + each[r] * end for r in RESOURCES}, limit)
