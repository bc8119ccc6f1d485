"""What is known of every instruction that a run ever let in.

The coordinator remembers those that a decision may still ask for; of the others the transcript
tells. Reading it takes seconds for a run of a million messages.
"""

from __future__ import annotations

from bigpe.agents.messages import (
    ArmPulled,
    InstructionsProposed,
    PoolChanged,
    RewriteRequested,
    RunStarted,
)
from bigpe.agents.pool import Pool, PoolRow
from bigpe.agents.role_messages import GateDecided, ReviewRequested
from bigpe.runtime.facts import RunFacts
from bigpe.runtime.run_reader import messages
from bigpe.services.store import Store

KINDS = (
    RunStarted,
    RewriteRequested,
    ArmPulled,
    InstructionsProposed,
    ReviewRequested,
    GateDecided,
    PoolChanged,
)


async def all_rows(store: Store, run: str, pool: Pool) -> list[PoolRow]:
    """Every instruction ever admitted, in the order of admission; `pool`: the run's, as it stands.

    Bounds go by the variance between prompts of all instructions, as everywhere in the pool.
    """
    remembered = {row.instruction.id: row for row in pool.rows()}
    facts = await _facts(store, run)
    prior = facts.pooled_variance()
    return [remembered.get(id) or _row(facts, id, prior) for id in facts.admitted]


def _row(facts: RunFacts, id: str, prior: float | None) -> PoolRow:
    arm = facts.arms[id]
    gain = facts.interval(arm, prior)
    return PoolRow(
        arm.instruction,
        arm.finished_pulls,
        arm.count,
        *(gain or (None, None, None)),
        arm.parent,
        arm.born_round,
        f"{arm.state}: {arm.reason}" if arm.reason else arm.state,
        arm.author,
        arm.improvement,
    )


async def _facts(store: Store, run: str) -> RunFacts:
    facts = RunFacts()
    async for seq, ts, message in messages(store, run, *KINDS):
        facts.apply(seq, ts, message)
    return facts
