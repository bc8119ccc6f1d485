"""Makes the plugin actors of a session from `[roles.NAME]`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from autogen_core import AgentRuntime

from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.plugin import GateRule
from bigpe.agents.plugins import RoleContext
from bigpe.agents.plugins.actors import (
    ContributorActor,
    GateActor,
    ObserverActor,
    PluginActor,
    RoleLimits,
)
from bigpe.agents.plugins.config import FoundRole, find_roles
from bigpe.agents.plugins.llm import PluginLlm
from bigpe.agents.plugins.thread import RoleThread
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.services import Services
from bigpe.services.core.retrying import RetryRule

T = TypeVar("T")


def gate_rules(roles: Sequence[FoundRole]) -> tuple[GateRule, ...]:
    """The gates of a run's plan."""
    return tuple(
        GateRule(name=role.name, before=role.before, required=role.config.required)
        for role in roles
        if role.shape == "gate"
    )


def names_of(roles: Sequence[FoundRole], shape: str) -> tuple[str, ...]:
    """The names of the roles with this shape."""
    return tuple(role.name for role in roles if role.shape == shape)


def with_observers_of(stored: BigpeConfig, wanted: BigpeConfig, plan: CampaignPlan) -> BigpeConfig:
    """`stored` with the observers of `wanted` and their models.

    Observers may change during a run. Gates and contributors may not and stay as in `stored`.
    """
    fixed = {rule.name for rule in plan.gates} | set(plan.contributors)
    found = {role.name for role in find_roles(wanted.roles) if role.shape == "observer"}
    free = (found | (stored.roles.keys() - wanted.roles.keys())) - fixed
    return stored.model_copy(
        update={
            "roles": _swapped(stored.roles, wanted.roles, free),
            "llm": _swapped(stored.llm, wanted.llm, free),
        }
    )


def _swapped(old: Mapping[str, T], new: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    """`old` with the entries of these names replaced by those of `new`."""
    kept = {name: value for name, value in old.items() if name not in names}
    return kept | {name: value for name, value in new.items() if name in names}


def kinds_of(role: FoundRole) -> tuple[str, ...]:
    """The message kinds that are delivered to the role's actor."""
    match role.shape:
        case "observer":
            return tuple(sorted({*role.reads, "PoolChanged"}))
        case "gate":
            return ("ReviewRequested",)
        case "contributor":
            return ("CritiqueRequested",)


def with_plugin_actors(
    consumers: Mapping[str, tuple[str, ...]], roles: Sequence[FoundRole]
) -> dict[str, tuple[str, ...]]:
    """The recipients of each message kind, with the plugin actors."""
    merged = dict(consumers)
    for role in roles:
        for kind in kinds_of(role):
            merged[kind] = (*merged.get(kind, ()), role.name)
    return merged


@dataclass
class PluginActors:
    """The plugin actors of a session."""

    actors: dict[str, PluginActor] = field(default_factory=dict[str, PluginActor])

    async def join(
        self,
        roles: Sequence[FoundRole],
        runtime: AgentRuntime,
        journal: Journal,
        services: Services,
        retry: RetryRule,
    ) -> None:
        """Make the actor of each role and subscribe it."""
        for role in roles:
            actor = self.actors[role.name] = _actor(role, journal, services, retry)
            await actor.join(runtime, role.name, kinds_of(role))
            if role.shape == "observer" and role.config.replay:
                await journal.requeue(role.name, kinds_of(role))

    async def catch_up(self) -> None:
        """Let every observer handle all its open deliveries."""
        for actor in self.actors.values():
            if isinstance(actor, ObserverActor):
                await actor.catch_up()

    async def close(self) -> None:
        """End the threads of the plugin actors."""
        for actor in self.actors.values():
            await actor.close()


def _actor(role: FoundRole, journal: Journal, services: Services, retry: RetryRule) -> PluginActor:
    config = role.config
    service = services.llm(role.name)
    llm = PluginLlm(role.name, service, max_calls=config.max_llm_calls)
    context = RoleContext(
        name=role.name,
        options=role.options,
        llm=llm,
        sees=service.sees,
        picture=services.blobs.read,
    )
    thread: RoleThread[Any] = RoleThread(role.name, lambda: role.cls(context))
    limits = RoleLimits(config.timeout_s, config.max_texts, config.max_chars)
    match role.shape:
        case "observer":
            return ObserverActor(journal, thread, llm, limits, role.reads, retry)
        case "gate":
            return GateActor(journal, thread, llm, limits, retry)
        case "contributor":
            return ContributorActor(journal, thread, llm, limits, retry)
