"""Taking up a stored run: its own configuration, settled with the one that it is opened by.

What the caller changes is compared first and refused where results depend on it. What is allowed
becomes a message to the coordinator, so that the run's state stays a fold over its transcript.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bigpe.agents.campaign_plan import CampaignPlan
from bigpe.agents.coordinator import Coordinator
from bigpe.agents.journal import Journal
from bigpe.agents.messages import Message, PlanChanged, RunStarted, start_run
from bigpe.agents.role_messages import RolesChanged
from bigpe.runtime.changes import Change, compare, require_allowed
from bigpe.runtime.config import BigpeConfig, check_config
from bigpe.runtime.guests import with_observers_of
from bigpe.runtime.history import config_of, plan_of
from bigpe.runtime.project import Project
from bigpe.services.after_start import AfterStart
from bigpe.services.errors import ConfigError
from bigpe.services.store import Store


async def config_for(
    place: Project, name: str, given: BigpeConfig | Mapping[str, Any] | None
) -> BigpeConfig:
    """The configuration to open a run by: the one given, else the one that it is stored with.

    ConfigError when there is neither, or the one given is wrong.
    """
    if given is None:
        return await _stored(place, name)
    if not isinstance(given, BigpeConfig):
        given = check_config(dict(given), where="the configuration given to Session.open")
    return given.with_word_files(place.folder)


async def _stored(project: Project, name: str) -> BigpeConfig:
    if project.database.exists():
        async with Store(project.database, read_only=True) as store:
            stored = await config_of(store, name)
        if stored is not None:
            return stored
    raise ConfigError(f"there is no run {name!r} here; start it with `bigpe run {name}`")


async def changes_by(wanted: BigpeConfig, store: Store, name: str) -> list[Change]:
    """What `wanted` changes of the run's configuration; ConfigError when it may not."""
    stored = await config_of(store, name)
    if stored is None:
        return []
    current = await _with_observers(store, name, stored, wanted)
    changes = compare(current, wanted)
    require_allowed(name, changes)
    if current != stored:
        record = {"name": name, "config": current.model_dump_json()}
        await store.write([("set_run_config", record)])
    return changes


async def _with_observers(
    store: Store, name: str, stored: BigpeConfig, wanted: BigpeConfig
) -> BigpeConfig:
    """The run's configuration with the observers of `wanted`, which may come and go."""
    if (stored.roles, stored.llm) == (wanted.roles, wanted.llm):
        return stored
    plan = await plan_of(store, name)
    return with_observers_of(stored, wanted, plan) if plan else stored


@dataclass(frozen=True)
class Settlement:
    """What a stored run's coordinator has to learn of how it is taken up."""

    name: str
    config: BigpeConfig
    changes: Sequence[Change]
    """What `config` changes of the one that the run is stored with."""
    store: Store
    journal: Journal
    coordinator: Coordinator

    async def settle(self, owed: Sequence[Message], observers: tuple[str, ...]) -> CampaignPlan:
        """Tell it, before anything else is handled; returns the plan that the run began with."""
        campaign = self.coordinator.campaign
        plan = campaign.plan if campaign.started else _plan_in(owed)
        await self._tell_observers(plan, observers)
        await self._change_plan(owed)
        return plan

    async def _tell_observers(self, plan: CampaignPlan, observers: tuple[str, ...]) -> None:
        """Tell the coordinator when others than before read along."""
        campaign = self.coordinator.campaign
        before = tuple(campaign.attendance.since) if campaign.started else plan.observers
        if observers != before and campaign.stopped is None:
            place = f"{campaign.attendance.changes}/{','.join(observers)}"
            cause = start_run(self.name, plan)
            await self.journal.commit("", [RolesChanged.make(cause, place, observers=observers)])

    async def _change_plan(self, owed: Sequence[Message]) -> None:
        """Let the coordinator take up changes now, so that it is known whether the run goes on."""
        changed = any(change.verdict == AfterStart.TAKES_EFFECT for change in self.changes)
        early = [m for m in owed if isinstance(m, RunStarted | PlanChanged)]
        if changed or any(isinstance(message, PlanChanged) for message in early):
            for message in early:
                await self.coordinator.fold(message)
        store_config = {"name": self.name, "config": self.config.model_dump_json()}
        if changed:
            message = self._plan_changed()
            await self.journal.commit("", [message], also=[("set_run_config", store_config)])
            await self.coordinator.fold(message)
        elif self.changes:
            await self.store.write([("set_run_config", store_config)])
        if self.changes and (stopped := self.coordinator.campaign.stopped):
            state = {"name": self.name, "state": "complete", "reason": stopped.reason}
            await self.store.write([("set_run_state", state)])

    def _plan_changed(self) -> PlanChanged:
        campaign, run = self.coordinator.campaign, self.config.run
        return PlanChanged.make(
            start_run(self.name, campaign.plan),
            str(campaign.changes + 1),
            rounds=run.rounds,
            concurrency=run.concurrency,
            patience=run.patience,
            limits=self.config.budget.limits,
            prices=self.config.prices,
        )


def _plan_in(messages: Iterable[Message]) -> CampaignPlan:
    """The plan in a run's first message, which is among those owed."""
    return next(message.plan for message in messages if isinstance(message, RunStarted))
