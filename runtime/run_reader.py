"""Following a run in its store: every fact of its transcript is read once, as it arrives.

A stretch of the transcript is read at a time, so that a reader of a long run answers at once and
catches up meanwhile, and never holds a transaction open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bigpe.agents.diagnostics import Finding, diagnose
from bigpe.agents.messages import AnyMessage, parse_message
from bigpe.agents.round_facts import RoundHistory
from bigpe.runtime.facts import RunFacts
from bigpe.services.store import Store

FACTS = (
    "RunStarted",
    "PlanChanged",
    "RewriteRequested",
    "ArmPulled",
    "GradientsComputed",
    "InstructionsProposed",
    "ReviewRequested",
    "GateDecided",
    "PoolChanged",
    "StepFailed",
    "RunStopped",
)
STRETCH = 2_000
"""Transcript rows looked at in one go, while nobody else is answered: some ten milliseconds."""


async def read_messages(
    store: Store, run: str, kinds: Sequence[str], after: int, upto: int
) -> list[tuple[int, float, AnyMessage]]:
    """The messages of these kinds with after < `seq` <= upto, each with its `seq` and its time
    (Unix, seconds), in their order."""
    window = {"run": run, "after": after, "upto": upto}
    rows = [row for kind in kinds for row in await store.rows("facts", type=kind, **window)]
    found = [(row["seq"], row["ts"], parse_message(row["body"])) for row in rows]
    return sorted(found, key=lambda fact: fact[0])


class RunReader:
    """Follows a run in its store: the facts up to a place in the transcript."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._turn = asyncio.Lock()
        self.facts = RunFacts()
        self._history = RoundHistory()
        self._findings: tuple[int, list[Finding]] = (0, [])
        self.seq = 0
        """Up to here the transcript was read."""
        self.last_seq = 0
        """Where it ended when last looked at."""

    @property
    def behind(self) -> bool:
        """Whether more is known to be there than was read."""
        return self.seq < self.last_seq

    @property
    def share(self) -> float:
        """How much of what is there was read, 0..1."""
        return self.seq / self.last_seq if self.last_seq else 1.0

    def findings(self) -> list[Finding]:
        """The faults that stand after what was read."""
        rounds = len(self.facts.rounds)
        if self._findings[0] != rounds:
            self._findings = (rounds, diagnose(self._history.facts))
        return self._findings[1]

    async def catch_up(self, seconds: float | None = None) -> None:
        """Read on to the transcript's end, or until the time is used: a stretch at least."""
        until = None if seconds is None else time.monotonic() + seconds
        row = await self._store.one("last_seq", run=self._run)
        self.last_seq = row["seq"] if row else 0
        while self.behind:
            async with self._turn:  # for a stretch only: another may read on in between
                await self._read_stretch(min(self.seq + STRETCH, self.last_seq))
            if until is not None and time.monotonic() >= until:
                break
            await asyncio.sleep(0)

    async def _read_stretch(self, upto: int) -> None:
        if upto <= self.seq:
            return  # another has read it meanwhile
        facts = await read_messages(self._store, self._run, FACTS, self.seq, upto)
        # Of the many scores diagnostics only want those of pictures whose prompt was cut off.
        window = {"run": self._run, "after": self.seq, "upto": upto}
        place = {**window, "type": "ImageScored", "limit": -1}
        rows = await self._store.rows("told_of_rounds", **place)
        facts += [(row["seq"], row["ts"], parse_message(row["body"])) for row in rows]
        for seq, ts, message in sorted(facts, key=lambda fact: fact[0]):
            self.facts.apply(seq, ts, message)
            self._history.add(message)
        self.seq = upto
