"""Runs with a long transcript, for bench_store.py: how they are made, opened and resumed.

A real run on fake models is made, and its rounds are copied by SQL until the transcript has
the wanted length (ids, rounds and deliveries too). The coordinator's snapshot is that of a campaign
of that length, whose every proposal is a new instruction; its last delivery stays open.
"""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from autogen_core import SingleThreadedAgentRuntime

from bigpe.agents.actors.journal import Journal
from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.campaign.snapshot import fold_version
from bigpe.agents.messages.core import Message, start_run
from bigpe.runtime.transcript.replay import COORDINATOR
from bigpe.services.store.database import Store
from bigpe.testing.campaigns import answer_anew, plan
from bigpe.testing.runs import run_fake

TAIL = 200
"""Messages that the coordinator handled after its snapshot: within one interval of snapshots."""
SPARE_ROUNDS = 100
"""Rounds of the plan after the history: every resume of a benchmark uses up a few of them."""
RUN = {"rounds": 40, "batch_size": 5, "pilot_prompts": 5, "seed": 3}
CHANGING = 35
"""Copies whose rounds change the pool. Some 5 sqrt(t) instructions enter in t rounds: in a million
messages 580, 30 of them in the first 40 rounds. So these copies change it more often than a run."""
COPY_MESSAGES = """INSERT INTO message(mid, run, type, sender, parent, round, body, ts, tokens, ms)
SELECT substr(mid, 1, 24) || printf('%08x', :copy), run, type, sender, parent, round + :shift,
  CASE WHEN type = 'PoolChanged' AND :copy > :changing
  THEN json_set(body, '$.admitted', json('[]'), '$.retired', json('[]')) ELSE body END,
  ts, tokens, ms FROM message WHERE seq <= :last ORDER BY seq"""
COPY_DELIVERIES = """INSERT INTO delivery(run, actor, mid, done)
SELECT run, actor, substr(mid, 1, 24) || printf('%08x', :copy), done + :copy * :most FROM delivery
WHERE mid IN (SELECT mid FROM message WHERE seq <= :last)"""


class Fold(NamedTuple):
    """Where a coordinator stands."""

    snapshot: str
    heard: list[Message]
    """What it handled since."""
    pending: list[Message]
    """What it has not handled yet."""


def fold_of(rounds: int) -> Fold:
    """The coordinator in a run of `rounds` rounds.

    The models answer at once and the evidence, which decides nothing here, is left out.
    """
    heard: list[Message] = []
    campaign = Campaign()
    naive = tuple(f"a thing{index} in a place{index % 7}" for index in range(150))
    wanted = plan(
        rounds=rounds + SPARE_ROUNDS, batch_size=5, concurrency=2, pool_size=8, train=naive
    )
    waiting: list[Message] = [start_run("main", wanted)]
    order = random.Random(1)

    def handle_one() -> Message:
        incoming = waiting.pop(order.randrange(len(waiting)))
        waiting.extend(
            a for message in campaign.apply(incoming) if (a := answer_anew(message)) is not None
        )
        return incoming

    while campaign.applied < rounds - 20:
        handle_one()
    snapshot = campaign.snapshot()
    heard = [handle_one() for _ in range(TAIL)]
    return Fold(snapshot, heard, waiting)


async def make_history(folder: Path, messages: int) -> None:
    """A project whose transcript has `messages` messages, of the shapes of a real run."""
    await run_fake(folder, {"run": RUN})
    connection = sqlite3.connect(folder / "bigpe.db", isolation_level=None)
    item = connection.execute
    (last, rounds) = item("SELECT max(seq), max(round) FROM message").fetchone()
    (most,) = item("SELECT max(done) FROM delivery").fetchone()
    fold = fold_of(max(60, rounds * messages // last))
    item("BEGIN")
    for copy in range(1, messages // last):
        shared = {"copy": copy, "last": last}
        item(COPY_MESSAGES, shared | {"shift": copy * rounds, "changing": CHANGING})
        item(COPY_DELIVERIES, shared | {"most": most})
    item("COMMIT")
    connection.close()
    async with Store(folder / "bigpe.db") as store:
        state = {"version": fold_version(), "state": fold.snapshot, "ts": time.time()}
        place = {"run": "main", "actor": COORDINATOR}
        await store.write([("put_snapshot", place | state)])
        journal = Journal(store, "main")
        kinds = {message.kind for message in (*fold.heard, *fold.pending)}
        journal.attach(SingleThreadedAgentRuntime(), {kind: (COORDINATOR,) for kind in kinds})
        for message in fold.heard:
            await journal.commit("scorer", [message])
            await journal.commit(COORDINATOR, [], handled=message)
        await journal.commit("scorer", fold.pending)
