"""What is known of every instruction that a run ever let in.

The coordinator remembers those that a decision may still ask for; of the others the transcript
tells. Reading it takes seconds for a run of a million messages.
"""

from __future__ import annotations

from bigpe.agents.pool import Pool, PoolRow
from bigpe.runtime.facts import RunFacts
from bigpe.runtime.run_reader import read_messages
from bigpe.services.store import Store

KINDS = (
    "RunStarted",
    "RewriteRequested",
    "ArmPulled",
    "InstructionsProposed",
    "ReviewRequested",
    "GateDecided",
    "PoolChanged",
)
STRETCH = 20_000
"""Transcript rows looked at in one go."""


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
        arm.pulls,
        len(arm.gains),
        *(gain or (None, None, None)),
        arm.parent,
        arm.born_round,
        f"{arm.state}: {arm.reason}" if arm.reason else arm.state,
        arm.author,
        arm.improvement,
    )


async def _facts(store: Store, run: str) -> RunFacts:
    facts = RunFacts()
    row = await store.one("last_seq", run=run)
    last = row["seq"] if row else 0
    for after in range(0, last, STRETCH):
        upto = min(after + STRETCH, last)
        for seq, ts, message in await read_messages(store, run, KINDS, after, upto):
            facts.apply(seq, ts, message)
    return facts
