"""The state of a campaign: data without decisions, in values that a snapshot can keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from bigpe.agents.bandit.operator_search import OperatorSearch
from bigpe.agents.bandit.policies import Policy, PolicyConfig, make_policy
from bigpe.agents.bandit.pool import Pool
from bigpe.agents.campaign.answers import AnswerRecord
from bigpe.agents.campaign.budget import BudgetAccount
from bigpe.agents.campaign.pilot import Pilot
from bigpe.agents.campaign.plugin_state import Gates, ObserverReports
from bigpe.agents.campaign.prompt_schedule import PromptSchedule
from bigpe.agents.campaign.round import Round
from bigpe.agents.campaign.stopping import PromptEffect, StoppingRule
from bigpe.agents.evidence.comparison_window import ComparisonWindow
from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.messages.core import RunStarted, RunStopped
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.search import SearchState
from bigpe.agents.messages.usage import Usage
from bigpe.agents.statistics.moments import ScaleEstimate
from bigpe.services.core.values import Instruction

NO_SCALE = ScaleEstimate(sigma0=1.0, nu0=1.0)
"""The noise of a gain before the pilot has measured it."""
T = TypeVar("T")


@dataclass(repr=False)
class CampaignState:
    """The whole state of the coordinator. Only the transitions of Campaign change it."""

    start_message: RunStarted | None = None
    current_plan: CampaignPlan | None = None
    """The plan of the start message with the changes since."""
    current_pool: Pool | None = None
    changes: int = 0
    """Number of changes of the plan."""
    observer_reports: ObserverReports = field(default_factory=ObserverReports)
    pilot: Pilot = field(default_factory=Pilot)
    rounds: dict[int, Round] = field(default_factory=dict[int, Round])
    """The rounds in flight, by index."""
    chosen: int = 0
    """Index of the newest chosen round."""
    applied: int = 0
    """Index of the newest settled round."""
    schedule: PromptSchedule = field(default_factory=PromptSchedule)
    gates: Gates = field(default_factory=Gates)
    comparisons: ComparisonWindow = field(default_factory=ComparisonWindow)
    operators: OperatorSearch = field(default_factory=OperatorSearch)
    scale: ScaleEstimate = NO_SCALE
    budget: BudgetAccount = field(default_factory=BudgetAccount)
    answers: AnswerRecord = field(default_factory=AnswerRecord)
    stopping: StoppingRule = field(default_factory=StoppingRule)
    prompt_effect: PromptEffect = field(default_factory=PromptEffect)
    stop_request: str | None = None
    """The reason of a StopRequested that no PlanChanged has cancelled."""
    broken: str | None = None
    """Why no round may begin any more, whatever the plan."""
    stopped: RunStopped | None = None
    replaying: bool = False
    """True while a stored message is applied again."""

    @property
    def started(self) -> bool:
        """Whether RunStarted was applied."""
        return self.start_message is not None

    @property
    def start(self) -> RunStarted:
        """The first message. Raises RuntimeError before it was applied."""
        return _after_start(self.start_message)

    @property
    def plan(self) -> CampaignPlan:
        """The current plan. Raises RuntimeError before RunStarted was applied."""
        return _after_start(self.current_plan)

    @property
    def pool(self) -> Pool:
        """The instructions. Raises RuntimeError before RunStarted was applied."""
        return _after_start(self.current_pool)

    @cached_property
    def policy(self) -> Policy:
        """The policy of the plan."""
        return make_policy(PolicyConfig.model_validate(self.plan.policy))

    @property
    def pairs(self) -> Sequence[PairedComparison]:
        """The newest paired comparisons of the settled rounds (see comparisons.WINDOW).

        Comparisons of professional prompts are included.
        """
        return self.comparisons.pairs

    @property
    def failed(self) -> bool:
        """Whether the run has a fault that no change of the plan fixes."""
        return self.broken is not None

    @property
    def used(self) -> Usage:
        """The usage of the pilot and of the settled rounds."""
        return self.budget.used

    @property
    def sigma(self) -> float:
        """Estimated standard deviation of a gain, score units."""
        return self.scale.sigma

    def wants_gradient(self, index: int) -> bool:
        """Whether round `index` asks for gradients when it is chosen now.

        Not if the pool has no room; nor, under a style that reasons, if the run ends before a round
        could pull what comes of them. Rounds after the last wait for a longer run, and ask.
        """
        plan = self.plan
        reads = not plan.studies or bool(plan.contributors or plan.observers)
        in_time = reads or index + plan.concurrency <= plan.rounds or index > plan.rounds
        return in_time and self.pool.has_room(index)

    def search_of(
        self, index: int, instruction: Instruction, wants_gradient: bool
    ) -> SearchState | None:
        """The search for a round that is chosen now; None if the style of the run needs none."""
        if not self.plan.studies:
            return None
        return self.operators.begin(
            self.plan,
            index,
            instruction,
            self.pool,
            self.pairs,
            proposals=self.plan.improvements * self.plan.proposals if wants_gradient else 0,
            stale=self.stopping.stale_rounds,
            sigma=self.sigma,
        )


def _after_start(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a campaign begins with RunStarted")
    return value
