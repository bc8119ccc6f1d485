"""Diagnostics of a run from its stored messages, for `bigpe status`, reports and the live view."""

from __future__ import annotations

import asyncio
import json

from pydantic import TypeAdapter

from bigpe.agents.diagnostics.faults import WINDOW, RunFinding, diagnose
from bigpe.agents.diagnostics.round_history import RoundHistory
from bigpe.agents.messages.core import (
    ArmPulled,
    ImageScored,
    InstructionsProposed,
    PoolChanged,
    RunStarted,
    StepFailed,
)
from bigpe.runtime.project.config import MOST_IN_FLIGHT
from bigpe.runtime.transcript.reader import last_message, messages
from bigpe.runtime.transcript.replay import plan_of
from bigpe.services.core.values import Instruction
from bigpe.services.store.database import Store
from bigpe.services.store.paging import PAGE, page

KINDS = (RunStarted, ArmPulled, ImageScored, StepFailed, PoolChanged, InstructionsProposed)
"""The message kinds that the history is folded from."""


async def history_of(store: Store, run: str, upto: int | None = None) -> RoundHistory:
    """The history of the run's newest rounds, from messages up to sequence number `upto`."""
    last = await last_message(store, run, PoolChanged, upto)
    newest = last.round if last else 0
    start = await _begin_of(store, run, newest - WINDOW - MOST_IN_FLIGHT)
    earlier = await _begin_of(store, run, newest - 2 * WINDOW - MOST_IN_FLIGHT)
    history = RoundHistory(living=await _living_at(store, run, start) if start else ())
    proposing = messages(store, run, RunStarted, InstructionsProposed, after=earlier, upto=start)
    async for stored in proposing:
        history.know(stored.message)
    newer = messages(store, run, *KINDS, after=start, upto=upto, truncated_only=True)
    count = 0
    async for stored in newer:
        history.add(stored.message)
        count += 1
        if count % PAGE == 0:
            await asyncio.sleep(0)  # let other tasks of the event loop work
    return history


async def _begin_of(store: Store, run: str, round: int) -> int:
    """A `seq` before all messages of that round and of later rounds; 0 for the first rounds."""
    if round <= 1:
        return 0
    rows = await page(store, run, round=round, type="RewriteRequested", limit=1)
    return rows[0]["seq"] - 1 if rows else 0


async def _living_at(store: Store, run: str, seq: int) -> list[Instruction]:
    """The instructions in the pool after the messages up to `seq`."""
    plan = await plan_of(store, run)
    seeds = plan.instructions if plan else ()
    living = {seed.instruction.id: seed.instruction for seed in seeds}
    for row in await store.rows("pool_changes", run=run, upto=seq):
        for instruction in _INSTRUCTIONS.validate_json(row["admitted"]):
            living[instruction.id] = instruction
        for id in json.loads(row["retired"]):
            living.pop(id, None)
    return [*living.values()]


_INSTRUCTIONS = TypeAdapter(list[Instruction])


async def findings_of(store: Store, run: str) -> list[RunFinding]:
    """The present faults of the run."""
    return diagnose((await history_of(store, run)).facts)
