"""The common input of a run's pages."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from bigpe.runtime.project.lock import lock_holder
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import RunReader
from bigpe.services.store.database import Store


class Context(NamedTuple):
    """A run, open for reading."""

    project: Project
    store: Store
    run: str
    reader: RunReader


async def standing(context: Context) -> dict[str, Any]:
    """The present state of the run, for the header of all pages."""
    row = await context.store.row("get_run", name=context.run)
    counts = await context.store.rows("count_messages", run=context.run)
    state, reason = (row["state"], row["reason"]) if row else ("open", "")
    lock = context.project.lock(context.run)
    if state in ("running", "open") and lock_holder(lock) is None:
        state = "interrupted"
    facts = context.reader.facts
    return {
        "run": context.run,
        "state": state,
        "reason": reason,
        "messages": sum(count["n"] for count in counts),
        "facts": facts,
        "plan": facts.plan,
        "round": facts.rounds[-1].round if facts.rounds else 0,
        "now": time.time(),
    }
