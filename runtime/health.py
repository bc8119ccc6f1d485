"""A run's diagnostics, from its stored messages: for `bigpe status`, reports and the live view."""

from __future__ import annotations

from bigpe.agents.diagnostics import Finding, diagnose
from bigpe.agents.round_facts import RoundHistory
from bigpe.runtime.transcript import entries
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


async def history_of(store: Store, run: str) -> RoundHistory:
    """The run's history as it stood at the last commit."""
    # A kind at a time along its index: most messages of a long run are of other kinds.
    found = [entry for kind in KINDS async for entry in entries(store, run, type=kind)]
    return RoundHistory(entry.message for entry in sorted(found, key=lambda entry: entry.seq))


async def findings_of(store: Store, run: str) -> list[Finding]:
    """The faults that stand in the run now."""
    return diagnose((await history_of(store, run)).facts)
