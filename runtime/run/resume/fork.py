"""Checks and inputs of a fork: a new run with the configuration of a stored run and some changes.

Both runs share the project's call cache, so the fork pays only for calls with other inputs.
Nothing else is shared; both runs can continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bigpe.agents.messages.plan import SeedInstruction
from bigpe.runtime.run.probe.first_question import BeforeStart
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store


class NewRun(NamedTuple):
    """What only a new run needs; see `Session.open`."""

    parent: str
    """The run that it is a fork of; "" for no fork."""
    from_best: bool
    before_start: BeforeStart | None


async def require_forkable(store: Store, parent: str, name: str) -> None:
    """ConfigError if the parent does not exist, or a run with the fork's name does."""
    if await store.row("get_run", name=parent) is None:
        raise ConfigError(f"there is no run {parent!r} to fork; `bigpe status` lists the runs")
    if await store.row("get_run", name=name) is not None:
        raise ConfigError(
            f"there is a run {name!r} already; choose another name for the fork, or continue "
            f"that run: bigpe resume {name}"
        )


async def with_best(
    store: Store, parent: str, seeds: Sequence[SeedInstruction]
) -> list[SeedInstruction]:
    """The seeds with the parent's best instruction. ConfigError if the parent has no result yet."""
    campaign = await replayed_campaign(store, parent)
    if not campaign.started or campaign.pool.best().mean is None:
        raise ConfigError(
            f"run {parent!r} has no best instruction yet; fork it without --from-best"
        )
    best = campaign.pool.best().instruction
    if best in [seed.instruction for seed in seeds]:
        return [*seeds]
    return [*seeds, SeedInstruction(name=f"best of {parent}", instruction=best)]
