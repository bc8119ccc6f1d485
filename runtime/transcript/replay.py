"""Rebuilds a run's state from its messages, read-only."""

from __future__ import annotations

import structlog
from pydantic import ValidationError

from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.campaign.snapshot import fold_version
from bigpe.agents.messages.base import COORDINATOR
from bigpe.agents.messages.core import RunStarted, parse_message
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.runtime.transcript.reader import first_message
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store

log = structlog.get_logger("bigpe.history")


async def replayed_campaign(store: Store, run: str) -> Campaign:
    """The run's campaign at the last commit, from its snapshot and the messages after it."""
    campaign, done = await _snapshot(store, run)
    for row in await store.rows("handled_by", run=run, actor=COORDINATOR, after=done):
        campaign.replay(parse_message(row["body"]))
    return campaign


def require_finished(campaign: Campaign, run: str) -> None:
    """ConfigError if no round of the run has finished, or none has given a result."""
    if not campaign.applied:
        raise ConfigError(f"run {run!r} has no finished round yet; continue it first")
    require_usable(campaign, run)


def require_usable(campaign: Campaign, run: str) -> None:
    """ConfigError if rounds have finished and not one rewrite was scored, or the alarm stopped it.

    Such a run says nothing of its instructions.
    """
    answers = campaign.answers
    if not answers.empty and not answers.alarmed:
        return
    reason = campaign.stopped.reason if answers.alarmed and campaign.stopped else answers.failure
    raise ConfigError(
        f"run {run!r} has no usable result: {reason}. Mend it, then begin again: bigpe run {run}"
    )


async def _snapshot(store: Store, run: str) -> tuple[Campaign, int]:
    """The stored campaign and the number of messages in it; empty if other code has stored it."""
    row = await store.row("get_snapshot", run=run, actor=COORDINATOR, version=fold_version())
    if row is None:
        return Campaign(), 0
    try:
        return Campaign.restore(row["state"]), row["done"]
    except ValidationError as error:
        log.warning("snapshot cannot be read", run=run, cause=str(error)[:300])
        return Campaign(), 0


async def plan_of(store: Store, run: str) -> CampaignPlan | None:
    """The plan in the run's first message; None if that message is not stored."""
    started = await first_message(store, run, RunStarted)
    return started.plan if started else None
