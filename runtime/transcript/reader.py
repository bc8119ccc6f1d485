"""Reads a run's messages by kind, and follows an active run.

The transcript is read in stretches. So a reader of a long run can answer before it has read all,
and holds no transaction open.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator
from typing import Generic, NamedTuple, TypeVar

from bigpe.agents.diagnostics.faults import RunFinding, diagnose
from bigpe.agents.diagnostics.round_history import RoundHistory
from bigpe.agents.messages.core import (
    ArmPulled,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PlanChanged,
    PoolChanged,
    RewriteRequested,
    RunStarted,
    RunStopped,
    StepFailed,
)
from bigpe.agents.messages.plugin import GateDecided, ReviewRequested
from bigpe.runtime.transcript.summary import RunSummary
from bigpe.services.store.database import Store
from bigpe.services.store.paging import NEWEST, PAGE, page

M = TypeVar("M", bound=Message)
SUMMARY_KINDS = (
    RunStarted,
    PlanChanged,
    RewriteRequested,
    ArmPulled,
    GradientsComputed,
    InstructionsProposed,
    ReviewRequested,
    GateDecided,
    PoolChanged,
    StepFailed,
    RunStopped,
)
"""The message kinds that `RunSummary` is folded from."""
STRETCH = 2_000
"""Sequence numbers per stretch. Reading them takes about 10 ms and blocks the pages meanwhile."""


class StoredMessage(NamedTuple, Generic[M]):
    """A message with its place in the transcript."""

    seq: int
    ts: float
    """Unix time, seconds."""
    message: M


async def messages(
    store: Store,
    run: str,
    *kinds: type[M],
    after: int = 0,
    upto: int | None = None,
    truncated_only: bool = False,
) -> AsyncGenerator[StoredMessage[M]]:
    """The messages of these kinds with after < `seq` <= upto, in transcript order.

    Without `upto` they go up to the end that the transcript has now. `truncated_only` leaves out
    scores of images whose whole prompt was read.
    """
    if upto is None:
        upto = await last_seq(store, run)
    while after < upto:
        # Each kind is read along its index. A full page of one kind bounds the others.
        bound = upto
        found: list[tuple[sqlite3.Row, type[M]]] = []
        for kind in kinds:
            filtered = truncated_only and kind is ImageScored
            query = "truncated_scores" if filtered else "messages_of_kind"
            place = {"run": run, "type": kind.__name__, "after": after, "upto": bound}
            rows = await store.rows(query, **place, limit=PAGE)
            if len(rows) == PAGE:
                bound = rows[-1]["seq"]
            found += [(row, kind) for row in rows]
        for row, kind in sorted(found, key=lambda pair: pair[0]["seq"]):
            if row["seq"] <= bound:
                message = kind.model_validate_json(row["body"])
                yield StoredMessage(row["seq"], row["ts"], message)
        after = bound


async def first_message(store: Store, run: str, kind: type[M]) -> M | None:
    """The run's first message of a kind, or None."""
    rows = await page(store, run, type=kind.__name__, limit=1)
    return kind.model_validate_json(rows[0]["body"]) if rows else None


async def last_message(store: Store, run: str, kind: type[M], upto: int | None = None) -> M | None:
    """The run's last message of a kind, up to a sequence number, or None."""
    before = NEWEST if upto is None else upto + 1
    rows = await page(store, run, type=kind.__name__, before=before, limit=1)
    return kind.model_validate_json(rows[0]["body"]) if rows else None


async def last_seq(store: Store, run: str) -> int:
    """The sequence number of the run's last message; 0 if there is none."""
    row = await store.row("last_seq", run=run)
    return row["seq"] if row else 0


async def read_summary(store: Store, run: str) -> RunSummary:
    """The summary of the whole run, at the last commit."""
    reader = RunReader(store, run)
    await reader.catch_up()
    return reader.facts


class RunReader:
    """Follows a stored run: its summary and findings up to a place in the transcript."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._turn = asyncio.Lock()
        self.facts = RunSummary()
        self._history = RoundHistory()
        self._findings: tuple[int, list[RunFinding]] = (0, [])
        self.seq = 0
        """The sequence number up to which the transcript was read."""
        self.last_seq = 0
        """The last sequence number of the run, at the last call of `catch_up`."""

    @property
    def behind(self) -> bool:
        """Whether messages are left to read."""
        return self.seq < self.last_seq

    @property
    def share(self) -> float:
        """The read share of the transcript, 0..1."""
        return self.seq / self.last_seq if self.last_seq else 1.0

    def findings(self) -> list[RunFinding]:
        """The faults of the run after the last read message."""
        rounds = len(self.facts.rounds)
        if self._findings[0] != rounds:
            self._findings = (rounds, diagnose(self._history.facts))
        return self._findings[1]

    async def catch_up(self, seconds: float | None = None) -> None:
        """Read to the transcript's end or for `seconds`, but at least one stretch."""
        until = None if seconds is None else time.monotonic() + seconds
        self.last_seq = await last_seq(self._store, self._run)
        while self.behind:
            async with self._turn:  # per stretch, so that other callers can read in between
                await self._read_stretch(min(self.seq + STRETCH, self.last_seq))
            if until is not None and time.monotonic() >= until:
                break
            await asyncio.sleep(0)

    async def _read_stretch(self, upto: int) -> None:
        if upto <= self.seq:
            return  # another caller has read it meanwhile
        kinds = (*SUMMARY_KINDS, ImageScored)
        place = {"after": self.seq, "upto": upto}
        # Read the whole stretch before folding it: a cancelled read must change nothing.
        stretch = [
            stored
            async for stored in messages(
                self._store, self._run, *kinds, **place, truncated_only=True
            )
        ]
        for seq, ts, message in stretch:
            self.facts.apply(seq, ts, message)
            self._history.add(message)
        self.seq = upto
