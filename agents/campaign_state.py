"""What a campaign knows: state without decisions, made of values that a snapshot can keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bigpe.agents.budget_account import Account
from bigpe.agents.campaign_plan import CampaignPlan
from bigpe.agents.comparisons import Comparisons
from bigpe.agents.draws import Draws
from bigpe.agents.evidence import Pair
from bigpe.agents.messages import RunStarted, RunStopped
from bigpe.agents.moments import ScaleEstimate
from bigpe.agents.outlook import Outlook
from bigpe.agents.pilot import Pilot
from bigpe.agents.plugin_state import Attendance, Gates
from bigpe.agents.policies import Policy, PolicyConfig, make_policy
from bigpe.agents.pool import Pool
from bigpe.agents.rounds import Round
from bigpe.agents.usage import Usage

NOT_STARTED = "a campaign begins with RunStarted"
NO_SCALE = ScaleEstimate(sigma0=1.0, nu0=1.0)
"""Before the pilot has told the noise of a gain."""


@dataclass(repr=False)
class CampaignState:
    """Its fields are the whole of the coordinator's state."""

    _start: RunStarted | None = None
    _plan: CampaignPlan | None = None
    _rounds: dict[int, Round] = field(default_factory=dict[int, Round])
    _chosen: int = 0
    _applied: int = 0
    _comparisons: Comparisons = field(default_factory=Comparisons)
    _draws: Draws = field(default_factory=Draws)
    _account: Account = field(default_factory=Account)
    _outlook: Outlook = field(default_factory=Outlook)
    changes: int = 0
    """How often the plan was changed."""
    _asked_to_stop: str | None = None
    _pilot: Pilot = field(default_factory=Pilot)
    _broken: str | None = None
    """Why no round may begin any more, whatever the plan."""
    _pool: Pool | None = None
    _scale: ScaleEstimate = NO_SCALE
    stopped: RunStopped | None = None
    _gates: Gates = field(default_factory=Gates)
    attendance: Attendance = field(default_factory=Attendance)
    _replaying: bool = False

    @property
    def started(self) -> bool:
        """Whether RunStarted was applied."""
        return self._start is not None

    @property
    def plan(self) -> CampaignPlan:
        """The run's inputs as they are now; RuntimeError before RunStarted was applied."""
        if self._plan is None:
            raise RuntimeError(NOT_STARTED)
        return self._plan

    @property
    def _started(self) -> RunStarted:
        if self._start is None:
            raise RuntimeError(NOT_STARTED)
        return self._start

    @property
    def pool(self) -> Pool:
        """The instructions; RuntimeError before RunStarted was applied."""
        if self._pool is None:
            raise RuntimeError(NOT_STARTED)
        return self._pool

    @cached_property
    def _policy(self) -> Policy:
        return make_policy(PolicyConfig.model_validate(self.plan.policy))

    @property
    def pairs(self) -> Sequence[Pair]:
        """The newest paired comparisons of the rounds applied so far (see comparisons.WINDOW);
        those of professional prompts included."""
        return self._comparisons.pairs

    @property
    def failed(self) -> bool:
        """Whether something broke that no change of the plan mends."""
        return self._broken is not None

    @property
    def applied(self) -> int:
        """Rounds that are over."""
        return self._applied

    @property
    def used(self) -> Usage:
        """What the pilot and the rounds that are over asked for."""
        return self._account.used

    @property
    def sigma(self) -> float:
        """Estimated standard deviation of one gain, score units."""
        return self._scale.sigma
