"""Applies a changed configuration to a stored run when it is resumed.

A change that results depend on is refused. An allowed change becomes a message to the
coordinator, so that the run's state stays a fold over its transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bigpe.agents.actors.coordinator import Coordinator
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import Message, PlanChanged, RunStarted, start_run
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.plugin import RolesChanged
from bigpe.runtime.project.concurrency import rounds_in_flight
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.prices import run_prices
from bigpe.runtime.run.resume.setting_changes import Change, compare, require_allowed
from bigpe.runtime.run.resume.stored_run import StoredRun
from bigpe.runtime.run.wiring.plugins import with_observers_of
from bigpe.services.core.after_start import AfterStart
from bigpe.services.store.database import Statement, Store


@dataclass(frozen=True)
class RunResumer:
    """A stored run, the configuration that it is opened with, and their differences."""

    stored: StoredRun
    config: BigpeConfig
    base: BigpeConfig
    """The stored configuration with the observers of `config`, which may always change."""
    changes: tuple[Change, ...]
    """The differences between `base` and `config`."""

    @classmethod
    def of(cls, stored: StoredRun, config: BigpeConfig) -> RunResumer:
        """Compare the two configurations. ConfigError if a change needs a fork."""
        base = stored.config
        same = (base.roles, base.llm) == (config.roles, config.llm)
        if not same and stored.plan is not None:
            base = with_observers_of(base, config, stored.plan)
        changes = compare(base, config)
        require_allowed(stored.name, changes)
        return cls(stored, config, base, tuple(changes))

    @property
    def needs_same_models(self) -> bool:
        """Whether a change is allowed only if renderer and scorer are still the same."""
        return any(change.verdict == AfterStart.IF_SAME_MODEL for change in self.changes)

    async def settle(
        self,
        store: Store,
        journal: Journal,
        coordinator: Coordinator,
        pending: Sequence[Message],
        observers: tuple[str, ...],
    ) -> CampaignPlan:
        """Apply the changes before any other message is handled; returns the run's plan."""
        campaign = coordinator.campaign
        plan = campaign.plan if campaign.started else self.stored.plan
        assert plan is not None, "the first message is stored, or the run is not resumed"
        if self.base != self.stored.config:
            await store.write([self._config_statement(self.base)])
        await self._change_observers(journal, coordinator, plan, observers)
        await self._change_plan(store, journal, coordinator, pending)
        return plan

    async def _change_observers(
        self,
        journal: Journal,
        coordinator: Coordinator,
        plan: CampaignPlan,
        observers: tuple[str, ...],
    ) -> None:
        """Post a message to the coordinator when the observers differ from those before."""
        campaign = coordinator.campaign
        before = tuple(campaign.observer_reports.since) if campaign.started else plan.observers
        if observers != before and campaign.stopped is None:
            place = f"{campaign.observer_reports.changes}/{','.join(observers)}"
            cause = start_run(self.stored.name, plan)
            await journal.commit("", [RolesChanged.make(cause, place, observers=observers)])

    async def _change_plan(
        self, store: Store, journal: Journal, coordinator: Coordinator, pending: Sequence[Message]
    ) -> None:
        """Apply changes of the plan at once, as they decide whether the run continues."""
        changed = any(change.verdict == AfterStart.TAKES_EFFECT for change in self.changes)
        early = [m for m in pending if isinstance(m, RunStarted | PlanChanged)]
        if changed or any(isinstance(message, PlanChanged) for message in early):
            for message in early:
                await coordinator.fold(message)
        if changed:
            message = self._plan_changed(coordinator)
            await journal.commit("", [message], also=[self._config_statement(self.config)])
            await coordinator.fold(message)
        elif self.changes:
            await store.write([self._config_statement(self.config)])
        if self.changes and (stopped := coordinator.campaign.stopped):
            state = {"name": self.stored.name, "state": "complete", "reason": stopped.reason}
            await store.write([("set_run_state", state)])

    def _config_statement(self, config: BigpeConfig) -> Statement:
        return ("set_run_config", {"name": self.stored.name, "config": config.model_dump_json()})

    def _plan_changed(self, coordinator: Coordinator) -> PlanChanged:
        campaign, run = coordinator.campaign, self.config.run
        same = run.concurrency == self.stored.config.run.concurrency
        plan = campaign.plan
        new = rounds_in_flight(self.config, plan.style, plan.proposals)
        return PlanChanged.make(
            start_run(self.stored.name, campaign.plan),
            str(campaign.changes + 1),
            rounds=run.rounds,
            concurrency=plan.concurrency if same else new.rounds,
            patience=run.patience,
            limits=self.config.budget.limits,
            prices=run_prices(self.config),
        )
