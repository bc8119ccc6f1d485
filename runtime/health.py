"""A run's diagnostics, from its stored messages: for `bigpe status`, reports and the live view."""

from __future__ import annotations

import asyncio
import json

from pydantic import TypeAdapter

from bigpe.agents.diagnostics import WINDOW, Finding, diagnose
from bigpe.agents.messages import AnyMessage, InstructionsProposed, RunStarted, parse_message
from bigpe.agents.round_facts import RoundHistory
from bigpe.runtime.history import plan_of
from bigpe.services.paging import NEWEST, PAGE, page
from bigpe.services.store import Store
from bigpe.services.values import Instruction

KINDS = ("RunStarted", "ArmPulled", "ImageScored", "StepFailed", "PoolChanged")
"""What the history is folded from, besides InstructionsProposed."""
OVERLAP = 64
"""Rounds that may be in flight at once, the most that [run] concurrency can be."""


async def history_of(store: Store, run: str, upto: int = NEWEST) -> RoundHistory:
    """The history of the run's newest rounds as it stood at the last commit; of its messages up to
    `seq` `upto`. It lets others on the event loop work in between.
    """
    last = await page(store, run, type="PoolChanged", before=upto + (upto < NEWEST), limit=1)
    newest = last[0]["round"] if last else 0
    start = await _begin_of(store, run, newest - WINDOW - OVERLAP)
    earlier = await _begin_of(store, run, newest - 2 * WINDOW - OVERLAP)
    history = RoundHistory(living=await _living_at(store, run, start) if start else ())
    for kind in ("RunStarted", "InstructionsProposed") if start else ():
        for message in (await _told(store, run, kind, earlier, start)).values():
            assert isinstance(message, RunStarted | InstructionsProposed)
            history.know(message)
    # A kind at a time along its index: most messages of a long run are of other kinds.
    found: dict[int, AnyMessage] = {}
    for kind in (*KINDS, "InstructionsProposed"):
        found |= await _told(store, run, kind, start, upto)
    for count, seq in enumerate(sorted(found)):
        history.add(found[seq])
        if count % PAGE == 0:
            await asyncio.sleep(0)
    return history


async def _begin_of(store: Store, run: str, round: int) -> int:
    """A `seq` before all messages of that round and of later ones; 0 for the first rounds."""
    if round <= 1:
        return 0
    rows = await page(store, run, round=round, type="RewriteRequested", limit=1)
    return rows[0]["seq"] - 1 if rows else 0


async def _living_at(store: Store, run: str, seq: int) -> list[Instruction]:
    """The instructions alive once the messages up to `seq` were said."""
    plan = await plan_of(store, run)
    living = {one.instruction.id: one.instruction for one in plan.instructions} if plan else {}
    for row in await store.rows("pool_changes", run=run, upto=seq):
        for one in _INSTRUCTIONS.validate_json(row["admitted"]):
            living[one.id] = one
        for id in json.loads(row["retired"]):
            living.pop(id, None)
    return [*living.values()]


_INSTRUCTIONS = TypeAdapter(list[Instruction])


async def _told(store: Store, run: str, kind: str, after: int, upto: int) -> dict[int, AnyMessage]:
    """The messages of that kind which say something of a round, by `seq`, in their order."""
    told: dict[int, AnyMessage] = {}
    place = {"run": run, "type": kind, "upto": upto, "limit": PAGE}
    while True:
        rows = await store.rows("told_of_rounds", **place, after=after)
        told |= {row["seq"]: parse_message(row["body"]) for row in rows}
        if len(rows) < PAGE:
            return told
        after = rows[-1]["seq"]


async def findings_of(store: Store, run: str) -> list[Finding]:
    """The faults that stand in the run now."""
    return diagnose((await history_of(store, run)).facts)
