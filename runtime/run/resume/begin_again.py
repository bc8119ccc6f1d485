"""A run without any result may begin again, so that a mended configuration needs no fork.

Its messages are removed, and the first message is made anew from the present configuration. What
was paid for stays in the call cache.
"""

from __future__ import annotations

import structlog

from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.resume.setting_changes import compare
from bigpe.runtime.run.resume.stored_run import StoredRun
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.core.after_start import AfterStart
from bigpe.services.store.database import Store

log = structlog.get_logger("bigpe.session")


async def begin_again(store: Store, stored: StoredRun | None, wanted: BigpeConfig) -> bool:
    """Remove the messages of a run without a result, if it can only go on as a new one.

    So it is after a change that results depend on, and after its end. A run that was paused and not
    changed goes on.

    Args:
        store: The project's store, for writing.
        stored: The stored run; None if there is none.
        wanted: The present configuration.

    Returns:
        Whether the run begins again.
    """
    if stored is None or stored.plan is None:
        return False
    run = stored.name
    if await store.row("scored_rewrite", run=run) is not None:
        return False
    campaign = await replayed_campaign(store, run)
    ended = campaign.stopped is not None and (campaign.failed or campaign.answers.empty)
    changes = compare(stored.config, wanted)
    if not ended and all(change.verdict != AfterStart.NEEDS_FORK for change in changes):
        return False
    log.warning("a run without a result begins again", run=run, changes=[str(c) for c in changes])
    names = ("drop_deliveries", "drop_snapshots", "drop_messages")
    await store.write([(name, {"run": run}) for name in names])
    return True
