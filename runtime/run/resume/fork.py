"""A fork: a new run with another's configuration, less some changes.

It shares all that was paid for: calls of models are remembered by project, under what their result
depends on. Nothing else is shared; both runs can go on.
"""

from __future__ import annotations

from bigpe.agents.messages.plan import SeedInstruction
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store


async def require_forkable(store: Store, parent: str, name: str) -> None:
    """ConfigError when there is no such parent, or the fork is there already."""
    if await store.row("get_run", name=parent) is None:
        raise ConfigError(f"there is no run {parent!r} to fork; `bigpe status` lists the runs")
    if await store.row("get_run", name=name) is not None:
        raise ConfigError(
            f"there is a run {name!r} already; choose another name for the fork, or go on with "
            f"that run: bigpe resume {name}"
        )


async def best_of(store: Store, parent: str) -> SeedInstruction:
    """The parent's best instruction, as a seed. ConfigError when it knows of none."""
    campaign = await replayed_campaign(store, parent)
    if not campaign.started or campaign.pool.best_basis() == "nothing":
        raise ConfigError(
            f"run {parent!r} knows of no best instruction yet; fork it without --from-best"
        )
    return SeedInstruction(name=f"best of {parent}", instruction=campaign.pool.best().instruction)
