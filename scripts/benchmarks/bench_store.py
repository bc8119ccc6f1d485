"""What durability costs, and whether a long history costs anything. Figures as JSON lines.

    python scripts benchmarks.bench_store [--quick] [--part throughput|history]

durable_over_autogen_ratio: many actors at a time ask, answer and count, once as plain AutoGen
agents on a SingleThreadedAgentRuntime and once as bigpe roles whose every message is committed to
SQLite with its delivery and its mark before it is published: same messages, same work, same
number of deliveries, in turn in one process. Messages handled per second, durable over plain.

open_million_seconds and resume_seconds_growth: see long_history.py for how transcripts of a million
messages are made. Opening is what `bigpe inspect` and a viewer ask first: the runs, the counts and
the first and last page, filtered and not, by a new connection each time. Resuming is what `bigpe
resume` does until the first new message is handled, models and Python's imports left out.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import patch

from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)
from rich.console import Console

from benchmarks.figures import say, say_ratio
from benchmarks.long_history import RUN, TAIL, make_history
from bigpe.agents.actors.base import Actor
from bigpe.agents.actors.journal import Journal
from bigpe.agents.messages.core import (
    ImageScored,
    Message,
    RenderRequested,
    ScoreRequested,
    start_run,
)
from bigpe.runtime.cli.common import perform
from bigpe.runtime.cli.run.run import earlier_rounds
from bigpe.runtime.run.monitoring.progress import RunView
from bigpe.runtime.run.wiring.actors import quiet_runtime
from bigpe.runtime.transcript.replay import COORDINATOR
from bigpe.services.core.values import digest
from bigpe.services.store.database import Store
from bigpe.services.store.paging import NEWEST, page
from bigpe.testing.campaigns import plan
from bigpe.testing.runs import open_fake

ACTORS = {"RenderRequested": "painter", "ScoreRequested": "scorer", "ImageScored": "counter"}
IN_FLIGHT = 64
RESUMES = 7


def paint(message: RenderRequested) -> list[Message]:
    """The painter's work: no picture, only what it says."""
    return [message.followed_by(ScoreRequested, image=digest([message.prompt, message.seed]))]


def judge(message: ScoreRequested) -> list[Message]:
    """The scorer's work."""
    fields = {"image": message.image, "score": 0.25, "scorer": "s" * 64}
    return [message.followed_by(ImageScored, **fields)]


class Counter:
    """Counts the scores that came, and tells when all are there."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted
        self.all_there = asyncio.Event()

    def take(self, message: ImageScored) -> list[Message]:
        """One more."""
        self._left -= 1
        if not self._left:
            self.all_there.set()
        return []


class PlainActor(RoutedAgent):
    """An AutoGen agent, as its documentation has it."""

    def __init__(self, counter: Counter) -> None:
        super().__init__("plain")
        self._counter = counter

    async def _say(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self.publish_message(message, TopicId(message.kind, self.id.key))

    @message_handler
    async def on_render(self, message: RenderRequested, ctx: MessageContext) -> None:
        await self._say(paint(message))

    @message_handler
    async def on_score(self, message: ScoreRequested, ctx: MessageContext) -> None:
        await self._say(judge(message))

    @message_handler
    async def on_scored(self, message: ImageScored, ctx: MessageContext) -> None:
        await self._say(self._counter.take(message))


class DurableActor(Actor):
    """The same as a role of bigpe."""

    def __init__(self, journal: Journal, counter: Counter) -> None:
        super().__init__("durable", journal, concurrency=IN_FLIGHT)
        self._counter = counter

    @message_handler
    async def on_render(self, message: RenderRequested, ctx: MessageContext) -> None:
        await self.perform(message, self._paint)

    @message_handler
    async def on_score(self, message: ScoreRequested, ctx: MessageContext) -> None:
        await self.perform(message, self._judge)

    @message_handler
    async def on_scored(self, message: ImageScored, ctx: MessageContext) -> None:
        await self.perform(message, self._count)

    async def _paint(self, message: RenderRequested) -> Sequence[Message]:
        return paint(message)

    async def _judge(self, message: ScoreRequested) -> Sequence[Message]:
        return judge(message)

    async def _count(self, message: ImageScored) -> Sequence[Message]:
        return self._counter.take(message)


def requests(run: str, count: int) -> list[RenderRequested]:
    """Pictures wanted, each of another prompt."""
    first = start_run(run, plan())
    return [
        RenderRequested.make(
            first, str(index), purpose="naive", naive=f"a thing number {index}",
            prompt=f"a thing number {index}, oil painting, golden hour, intricate details",
            seed=index, round=1 + index // 20,
        )
        for index in range(count)
    ]  # fmt: skip


async def plain_seconds(count: int) -> float:
    """AutoGen's runtime alone."""
    counter, runtime = Counter(count), SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
    for kind, name in ACTORS.items():
        await PlainActor(counter).register_instance(runtime, AgentId(name, "plain-run"))
        await runtime.add_subscription(TypeSubscription(kind, name))
    request = requests("plain", count)
    runtime.start()
    start = time.perf_counter()
    for message in request:
        await runtime.publish_message(message, TopicId(message.kind, "plain-run"))
    await counter.all_there.wait()
    seconds = time.perf_counter() - start
    await runtime.stop_when_idle()
    return seconds


async def durable_seconds(count: int, folder: Path) -> float:
    """A session's journal, roles and runtime; the requests are committed too."""
    counter, runtime = Counter(count), quiet_runtime()
    async with Store(folder / f"{time.monotonic_ns()}.db") as store:
        run = {"name": "durable", "created": 0.0, "config": "{}", "version": "0"}
        await store.write([("add_run", run)])
        journal = Journal(store, "durable")
        journal.attach(runtime, {kind: (name,) for kind, name in ACTORS.items()})
        for kind, name in ACTORS.items():
            await DurableActor(journal, counter).join(runtime, name, [kind])
        request = requests("durable", count)

        async def ask(batch: Sequence[Message]) -> None:
            await journal.commit("", batch)
            await journal.publish("", batch)

        runtime.start()
        start = time.perf_counter()
        await asyncio.gather(*(ask(request[at : at + 20]) for at in range(0, count, 20)))
        await counter.all_there.wait()
        await journal.drained()
        seconds = time.perf_counter() - start
        await runtime.stop_when_idle()
        counted = {
            row["type"]: row["n"] for row in await store.rows("count_messages", run="durable")
        }
        assert counted == dict.fromkeys(ACTORS, count) and not await journal.pending()
    return seconds


async def throughput(quick: bool) -> None:
    count, repeats = (300, 2) if quick else (3000, 7)
    plain: list[float] = []
    durable: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            a, b = await plain_seconds(count), await durable_seconds(count, Path(folder))
            print(
                f"{3 * count / a:.0f} messages/s plain, {3 * count / b:.0f} durable",
                file=sys.stderr,
            )
            if turn:
                plain.append(a)
                durable.append(b)
    ratios = [a / b for a, b in zip(plain, durable, strict=True)]
    rate = 3 * count / statistics.median(durable)
    say(
        "durable_over_autogen_ratio", round(statistics.median(ratios), 3), unit="ratio",
        n=repeats, lo=round(min(ratios), 3), hi=round(max(ratios), 3),
        how=f"messages handled per second, committed before published ({rate:.0f}/s), over "
        f"AutoGen's runtime alone; {3 * count} messages a repeat, {IN_FLIGHT} at a time an actor, "
        "run in turn; lo and hi of single repeats",
    )  # fmt: skip


# -- a long history -------------------------------------------------------------------------------


async def opening(folder: Path) -> float:
    """Seconds to open the project and read what a reader asks first."""
    start = time.perf_counter()
    async with Store(folder / "bigpe.db", read_only=True) as store:
        assert await store.rows("list_runs")
        assert await store.rows("count_messages", run="main")
        assert len(await page(store, "main", limit=100)) == 100
        assert len(await page(store, "main", before=NEWEST, limit=100)) == 100
        assert await page(store, "main", type="PoolChanged", limit=100)
        assert await page(store, "main", sender=COORDINATOR, before=NEWEST, limit=100)
        assert await page(store, "main", round=7)
    return time.perf_counter() - start


async def resuming(folder: Path) -> float:
    """Seconds until a run taken up again has handled its first open delivery.

    As `bigpe resume` does it, on fake models: the session, the coordinator's campaign,
    the open deliveries, and the live view, which reads the rounds of earlier processes meanwhile.
    """
    seconds, start, going = 0.0, time.perf_counter(), asyncio.Event()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_fake(folder, {"run": RUN}))
        past = await stack.enter_async_context(earlier_rounds(session, going))
        view = stack.enter_context(RunView(session, Console(file=io.StringIO()), past))
        async for message in session.run():
            going.set()
            view.show(message)
            if not session.pausing:
                seconds = time.perf_counter() - start
                session.pause()
        rounds = session.coordinator.campaign.applied
    assert seconds, "the run had nothing left to do"
    print(f"{rounds} rounds resumed in {seconds:.3f} s", file=sys.stderr)
    return seconds


async def history(quick: bool) -> None:
    small, large = (2_000, 20_000) if quick else (10_000, 1_000_000)
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / "small", Path(place) / "large"]
        for folder, messages in zip(folders, (small, large), strict=True):
            start = time.perf_counter()
            with patch("bigpe.agents.campaign.round.fit_evidence_table", no_evidence):
                await make_history(folder, messages)
            seconds = time.perf_counter() - start
            print(f"{messages} messages made in {seconds:.0f} s", file=sys.stderr)
        opened = [await opening(folders[1]) for _ in range(RESUMES)]
        pairs = [(await resuming(folders[0]), await resuming(folders[1])) for _ in range(RESUMES)]
    say(
        "open_million_seconds", round(statistics.median(opened), 4), unit="s", n=len(opened),
        lo=round(min(opened), 4), hi=round(max(opened), 4),
        how=f"open a transcript of {large} messages; runs, counts, first and last page, pages by "
        "type, sender and round; median, lo and hi of single openings",
    )  # fmt: skip
    how = (
        f"from opening a session to the first new message handled, on fake models: after {large} "
        f"messages over after {small}, {TAIL} of them past the snapshot"
    )
    say_ratio("resume_seconds_growth", [b for _, b in pairs], [a for a, _ in pairs], how)


def no_evidence(*_: object, **__: object) -> tuple[()]:
    """In place of the evidence table, which takes most of a round and decides nothing here."""
    return ()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same thing")
    parser.add_argument("--part", choices=("throughput", "history"), help="measure only this")
    chosen = parser.parse_args()
    if chosen.part != "history":
        await throughput(chosen.quick)
    if chosen.part != "throughput":
        await history(chosen.quick)


if __name__ == "__main__":
    perform(main())  # as a command does
