"""Reading a run without writing it: the coordinator's state is a fold over what it handled."""

from __future__ import annotations

from bigpe.agents.campaign import Campaign
from bigpe.agents.messages import parse_message
from bigpe.services.store import Store


async def replayed_campaign(store: Store, run: str) -> Campaign:
    """The run's campaign as it stood at the last commit."""
    campaign = Campaign()
    for row in await store.rows("handled_by", run=run, actor="coordinator"):
        campaign.apply(parse_message(row["body"]))
    return campaign
