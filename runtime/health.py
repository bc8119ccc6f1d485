"""A run's diagnostics, from its stored messages: for `bigpe status`, reports and the live view."""

from __future__ import annotations

import asyncio

from bigpe.agents.diagnostics import Finding, diagnose
from bigpe.agents.messages import AnyMessage, parse_message
from bigpe.agents.round_facts import RoundHistory
from bigpe.services.paging import NEWEST, PAGE
from bigpe.services.store import Store

KINDS = (
    "RunStarted",
    "ArmPulled",
    "ImageScored",
    "InstructionsProposed",
    "StepFailed",
    "PoolChanged",
)
"""What the history is folded from."""


async def history_of(store: Store, run: str, upto: int = NEWEST) -> RoundHistory:
    """The run's history as it stood at the last commit; of its messages up to `seq` `upto`.

    Seconds for a very long run; it lets others on the event loop work in between.
    """
    # A kind at a time along its index: most messages of a long run are of other kinds.
    found: dict[int, AnyMessage] = {}
    for kind in KINDS:
        found |= await _told(store, run, kind, upto)
    history = RoundHistory()
    for count, seq in enumerate(sorted(found)):
        history.add(found[seq])
        if count % PAGE == 0:
            await asyncio.sleep(0)
    return history


async def _told(store: Store, run: str, kind: str, upto: int) -> dict[int, AnyMessage]:
    """The messages of that kind which say something of a round, by `seq`."""
    told: dict[int, AnyMessage] = {}
    after, place = 0, {"run": run, "type": kind, "upto": upto, "limit": PAGE}
    while True:
        rows = await store.rows("told_of_rounds", **place, after=after)
        told |= {row["seq"]: parse_message(row["body"]) for row in rows}
        if len(rows) < PAGE:
            return told
        after = rows[-1]["seq"]


async def findings_of(store: Store, run: str) -> list[Finding]:
    """The faults that stand in the run now."""
    return diagnose((await history_of(store, run)).facts)
