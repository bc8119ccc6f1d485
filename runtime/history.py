"""Reading a run without writing it: the coordinator's state is a fold over what it handled."""

from __future__ import annotations

from bigpe.agents.campaign import Campaign
from bigpe.agents.messages import ImageScored, parse_message
from bigpe.services.paging import page
from bigpe.services.store import Store


async def replayed_campaign(store: Store, run: str) -> Campaign:
    """The run's campaign as it stood at the last commit."""
    campaign = Campaign()
    for row in await store.rows("handled_by", run=run, actor="coordinator", after=0):
        campaign.apply(parse_message(row["body"]))
    return campaign


async def scorer_of(store: Store, run: str) -> str | None:
    """The fingerprint of the scorer that the run's scores are of; None before the first one."""
    rows = await page(store, run, type="ImageScored", limit=1)
    messages = [parse_message(row["body"]) for row in rows]
    return next((one.scorer for one in messages if isinstance(one, ImageScored)), None)
