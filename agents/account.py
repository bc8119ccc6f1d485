"""What a run has used so far, and which of its rounds may begin."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bigpe.agents.budget import Usage, of_role, refusal
from bigpe.agents.campaign_plan import CampaignPlan
from bigpe.agents.messages import Message
from bigpe.agents.rounds import Pictures, Round
from bigpe.agents.snapshots import Keys
from bigpe.services.values import LlmUsage

REMEMBERED = 16_384
"""Pictures known to need no second call. One that is asked for again after so many others counts
again, though the memo may still have it: a budget rather overstates what a very long run took."""


@dataclass
class Account:
    """Settled in the order of rounds, so that it never depends on the order of answers."""

    used: Usage = Usage()
    """By the pilot and the rounds that are over."""
    _dearest: Usage = Usage()
    """The most that language models took in a round."""
    _painted: Keys = field(default_factory=dict[int, None])
    """The newest REMEMBERED pictures, the one asked for last at the end."""
    _settled: int = 0

    def settle_pilot(self, pictures: Pictures) -> None:
        """The pilot is over."""
        self._add(pictures, Usage())

    def settle(self, current: Round) -> None:
        """The round is over."""
        self._add(current.pictures, current.llm)
        self._dearest = self._dearest.with_llm_of(current.llm)
        self._settled += 1

    def _add(self, pictures: Pictures, llm: Usage) -> None:
        self.used += pictures.settle(self._painted) + llm
        for oldest in [*islice(self._painted, max(0, len(self._painted) - REMEMBERED))]:
            del self._painted[oldest]

    def add_late(self, role: str, used: LlmUsage) -> None:
        """A call that is told after its round was settled."""
        self.used += of_role(role, used)

    def pilot_refusal(self, plan: CampaignPlan, pictures: Pictures) -> str | None:
        """Why the pilot may not begin, or None."""
        count = len(pictures.fresh(self._painted))
        reserved = Usage(renders=count, scores=count)
        return refusal(plan.limits, plan.prices, self.used, reserved, "pilot")

    def let_begin(
        self, plan: CampaignPlan, rounds: Collection[Round], forbidden: str | None
    ) -> tuple[list[Message], str | None]:
        """What opens the rounds that may begin now, and why the next one may not."""
        said: list[Message] = []
        begun = [current for current in rounds if not current.withheld]
        for current in [current for current in rounds if current.withheld]:
            refused = forbidden or self.refusal(plan, begun, current)
            if refused is not None:
                return said, refused
            said += current.withheld
            current.withheld = []
            begun.append(current)
        return said, None

    def refusal(self, plan: CampaignPlan, begun: Sequence[Round], following: Round) -> str | None:
        """Why `following` may not begin beside the rounds in flight, or not yet; or None."""
        if following.request.round > plan.rounds:
            return f"all {plan.rounds} rounds are done"
        if begun and not self._settled and _to_be_learnt(plan):
            return "the first round has to tell what a round takes"
        reserved = Usage()
        for current in (*begun, following):
            reserved += current.at_most(plan, self._painted, self._dearest)
        return refusal(plan.limits, plan.prices, self.used, reserved)


def _to_be_learnt(plan: CampaignPlan) -> bool:
    """Whether something is limited whose use is known only once a round is settled."""
    limits = plan.limits
    plugins = plan.gates or plan.contributors or plan.observers
    return bool(limits.tokens or limits.usd or (limits.llm_calls and plugins))
