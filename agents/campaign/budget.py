"""The budget of a run: what it has used, and which rounds may begin.

A round is counted when it is settled, in the order of rounds, so a budget ends a run at the same
round however its answers arrived. For each round in flight, and the next one, the account reserves
the images and the calls that it may need; tokens by the most expensive round so far.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from bigpe.agents.campaign.round import PendingImages, Round
from bigpe.agents.messages.base import Keys
from bigpe.agents.messages.core import Message
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.usage import RESOURCES, Limits, Prices, Resource, Usage, amount, of_role
from bigpe.services.core.values import LlmUsage

REMEMBERED = 16_384
"""Number of images remembered as rendered. An image that is requested again later counts again,
although the call cache may have it: the usage of a very long run is rather too high."""
ROUNDING = 1e-9
"""Relative tolerance of a limit: the rounding error of a sum of prices."""


@dataclass
class BudgetAccount:
    """Usage of a run. Rounds are settled in order, so the order of answers does not matter."""

    used: Usage = Usage()
    """Usage of the pilot and of the settled rounds."""
    _dearest: Usage = Usage()
    """The largest language model usage of a round, for each role."""
    _painted: Keys = field(default_factory=dict[int, None])
    """Keys of the newest REMEMBERED images, the last requested image at the end."""
    _settled: int = 0

    def settle_pilot(self, pictures: PendingImages) -> None:
        """Count the usage of the finished pilot."""
        self._add(pictures, Usage())

    def settle(self, current: Round) -> None:
        """Count the usage of a finished round."""
        self._add(current.pictures, current.llm)
        self._dearest = self._dearest.with_llm_of(current.llm)
        self._settled += 1

    def _add(self, pictures: PendingImages, llm: Usage) -> None:
        self.used += pictures.settle(self._painted) + llm
        for oldest in [*islice(self._painted, max(0, len(self._painted) - REMEMBERED))]:
            del self._painted[oldest]

    def add_late(self, role: str, used: LlmUsage) -> None:
        """Count language model usage that is reported after its round was settled."""
        self.used += of_role(role, used)

    def pilot_refusal(self, plan: CampaignPlan, pictures: PendingImages) -> str | None:
        """Why the pilot may not begin; None if it may."""
        count = len(pictures.fresh(self._painted))
        reserved = Usage(renders=count, scores=count)
        return refusal(plan.limits, plan.prices, self.used, reserved, "pilot")

    def let_begin(
        self, plan: CampaignPlan, rounds: Collection[Round], forbidden: str | None
    ) -> tuple[list[Message], str | None]:
        """The opening requests of all rounds that may begin now, and why the next round may not."""
        opening: list[Message] = []
        begun = [current for current in rounds if not current.blocked_by_budget]
        for current in [current for current in rounds if current.blocked_by_budget]:
            refused = forbidden or self.refusal(plan, begun, current)
            if refused is not None:
                return opening, refused
            opening += current.blocked_by_budget
            current.blocked_by_budget = []
            begun.append(current)
        return opening, None

    def refusal(self, plan: CampaignPlan, begun: Sequence[Round], following: Round) -> str | None:
        """Why `following` may not begin beside the rounds in flight; None if it may."""
        if following.request.round > plan.rounds:
            return f"all {plan.rounds} rounds are done"
        if begun and not self._settled and _needs_first_round(plan):
            return "waiting for the first round: the cost of a round is not known yet"
        reserved = Usage()
        for current in (*begun, following):
            reserved += current.at_most(plan, self._painted, self._dearest)
        return refusal(plan.limits, plan.prices, self.used, reserved)


def _needs_first_round(plan: CampaignPlan) -> bool:
    """Whether a limited resource has a cost per round that only a settled round shows."""
    limits = plan.limits
    plugins = plan.gates or plan.contributors or plan.observers
    return bool(limits.tokens or limits.usd or (limits.llm_calls and plugins))


def refusal(
    limits: Limits, prices: Prices, used: Usage, reserved: Usage, what: str = "further round"
) -> str | None:
    """Why `what` may not start; None if it may.

    `used`: usage of settled rounds; `reserved`: the most that the rounds in flight and the next
    round may use.
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


class BudgetForecast(NamedTuple):
    """The expected end of a run, if its usage per round stays the same."""

    rounds: int
    """Number of rounds at the end."""
    used: dict[Resource, float]
    """Expected usage at the end."""
    limit: Resource | Literal["minutes"] | None
    """The limit that ends the run; None: its number of rounds."""


def forecast(
    used: Usage, applied: int, rounds: int, limits: Limits, prices: Prices, pilot: int = 0
) -> BudgetForecast | None:
    """The forecast from the mean usage of the settled rounds; None before the first.

    `pilot`: number of images of the pilot. The forecast tends to be too high: naive images are
    shared between rounds, so later rounds are cheaper.
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
    return BudgetForecast(end, {r: first[r] + each[r] * end for r in RESOURCES}, limit)
