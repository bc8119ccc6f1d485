"""Does the whole machine work all the time? Figures as JSON lines.

    python scripts benchmarks.bench_pipeline [--quick] [--part fakes|thinker|embedded]

Fakes: a run on stages of stated service times that take no processor time: a language model that
answers one request at a time, a renderer and a scorer that take one picture at a time. The busy
share is that of the busiest stage between the end of the third round and the choice of the last
one. The sequential loop is the same plan with one round in flight.

Thinker: a language model that thinks, with the settings that `bigpe init --template sdxl-turbo`
writes and rounds enough to learn from each other. The times of the models are skipped: when nothing
but them is waited for, the clock jumps to the end of the next one. bigpe's own work takes the time
that it takes.

Embedded: the same comparison on the embedded models, language model and torch on the same cores.
Processor seconds are those of this process and its children. With two rounds in flight other pulls
are chosen than with one, so the two runs do not ask for quite the same pictures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import selectors
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

import aiosqlite
import psutil
from autogen_core.models import CreateResult, LLMMessage

from benchmarks.figures import say
from bigpe.agents.messages.core import PoolChanged, RewriteRequested
from bigpe.runtime.cli.project.init import write_config, write_seeds
from bigpe.runtime.project.config import AUTO, load_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.values import digest
from bigpe.services.processes.cpu import process_cores
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer

SECONDS = {"llm": 0.06, "render": 0.05, "score": 0.05}
"""Of one request, one picture, one score."""
WARM_UP = 3
PACKAGED = Path(__file__).resolve().parents[2] / "prompts" / "project_templates" / "embedded.toml"
THINKER = {"rewrite": 5.0, "gradient": 20.0, "proposal": 20.0, "render": 0.2, "score": 0.05}
"""Seconds of one request, one picture, one score."""
T = TypeVar("T")
Work = Callable[..., Awaitable[Any]]


class Stage:
    """Counts the time in which at least one call is executing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running = 0
        self._since = 0.0
        self._busy = 0.0

    def slowed(self, work: Work) -> Work:
        """`work`, taking the stage's service time."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            if not self._running:
                self._since = time.perf_counter()
            self._running += 1
            try:
                await asyncio.sleep(self._seconds)
                return await work(*args, **kwargs)
            finally:
                self._running -= 1
                if not self._running:
                    self._busy += time.perf_counter() - self._since

        return call

    def busy(self) -> float:
        """Seconds so far."""
        going_on = time.perf_counter() - self._since if self._running else 0.0
        return self._busy + going_on


async def fake_run(folder: Path, rounds: int, concurrency: int) -> tuple[float, dict[str, float]]:
    """Seconds of a whole run, and each stage's busy share after the warm-up."""
    stages = {name: Stage(seconds) for name, seconds in SECONDS.items()}
    blobs = BlobStore(Project(folder).images)
    llm, renderer, scorer = FakeLlm(), FakeRenderer(blobs), FakeScorer(blobs)
    llm.create = stages["llm"].slowed(llm.create)  # pyright: ignore[reportAttributeAccessIssue]
    renderer.render = stages["render"].slowed(renderer.render)  # pyright: ignore[reportAttributeAccessIssue]
    scorer.score = stages["score"].slowed(scorer.score)  # pyright: ignore[reportAttributeAccessIssue]
    config = {
        "run": {"rounds": rounds, "concurrency": concurrency, "pilot_prompts": 2, "seed": 4},
        "data": {"professional": False},
        "render": {"max_batch": 1},
        "score": {"max_batch": 1},
    }
    marks: list[tuple[float, dict[str, float]]] = []
    start = time.perf_counter()
    async with Session.open(
        "main", config, project=folder, llms={"default": llm}, renderer=renderer, scorer=scorer
    ) as session:
        async for message in session.run():
            warm = isinstance(message, PoolChanged) and message.round == WARM_UP
            last = isinstance(message, RewriteRequested) and message.round == rounds
            if warm or last:
                busy = {name: stage.busy() for name, stage in stages.items()}
                marks.append((time.perf_counter(), busy))
    seconds = time.perf_counter() - start
    (begun, before), (ended, after) = marks
    return seconds, {name: (after[name] - before[name]) / (ended - begun) for name in stages}


async def fakes(quick: bool) -> None:
    """busiest_stage_busy_share and speedup_over_sequential."""
    rounds, concurrency = (10, 4) if quick else (20, 4)
    with tempfile.TemporaryDirectory() as place:
        first, _ = await fake_run(Path(place) / "one", rounds, 1)
        many, shares = await fake_run(Path(place) / "many", rounds, concurrency)
    busiest = max(shares, key=lambda name: shares[name])
    text = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in SECONDS.items())
    how = f"fake stages one call at a time, {text}; {rounds} rounds, {concurrency} in flight"
    print({name: round(share, 3) for name, share in shares.items()}, file=sys.stderr)
    say(
        "busiest_stage_busy_share", round(shares[busiest], 3), unit="share", n=rounds - WARM_UP,
        how=f"{how}; the {busiest} stage, from the end of round {WARM_UP} to the last choice",
    )  # fmt: skip
    say(
        "speedup_over_sequential", round(first / many, 3), unit="ratio", n=1,
        how=f"{how}; {first:.1f} s with one round in flight over {many:.1f} s",
    )  # fmt: skip


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing is at work.

    At work are its own callbacks and the threads of the database, which a run on fakes has alone.
    """

    def __init__(self) -> None:
        self._skipped = self._working = 0.0
        selector = selectors.DefaultSelector()
        self._wait = selector.select
        selector.select = self._select
        super().__init__(selector)

    def time(self) -> float:
        """Seconds, those that were skipped included."""
        return super().time() + self._skipped

    def _select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not timeout or self._working:
            return self._wait(timeout)
        events = self._wait(0)
        self._skipped += 0.0 if events else timeout
        return events

    def counted(self, work: Work) -> Work:
        """`work` of a thread, which the clock waits for."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._working += 1
            try:
                return await work(*args, **kwargs)
            finally:
                self._working -= 1

        return call


def with_skipped_times(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, on a SkippingLoop."""
    connection: Any = aiosqlite.Connection
    execute = connection._execute
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SkippingLoop)
        connection._execute = loop.counted(execute)
        try:
            return runner.run(work)
        finally:
            connection._execute = execute


class Thinker(FakeReasoner):
    """A language model that takes its time by what it is asked for, and repeats no instruction."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    async def create(self, messages: Sequence[LLMMessage], **more: Any) -> CreateResult:
        system = str(messages[0].content)
        wanted = {"improvements": "gradient", "instruction": "proposal"}
        names = (name for key, name in wanted.items() if f'"{key}"' in system)
        self.calls[name := next(names, "rewrite")] += 1
        await asyncio.sleep(THINKER[name])
        return await super().create(messages, **more)

    def _instruction(self, system: str, user: str) -> str:
        answer = json.loads(super()._instruction(system, user))
        answer["instruction"] += f" {digest(user)[:8]}"
        return json.dumps(answer)


def in_turn(seconds: float, work: Work) -> Work:
    """`work` on a list of requests, taking `seconds` for each of them."""

    async def call(requests: Sequence[Any]) -> Any:
        await asyncio.sleep(len(requests) * seconds)
        return await work(requests)

    return call


async def thinking_run(folder: Path, rounds: int, concurrency: int | str) -> tuple[float, int]:
    """Rounds a minute, from the pilot's end to the run's, and rounds in flight."""
    write_config(folder, "sdxl-turbo")
    write_seeds(folder, "tags")
    config = load_config(Project(folder).config).model_dump(mode="json")
    config["run"] |= {"rounds": rounds, "concurrency": concurrency}
    blobs = BlobStore(Project(folder).images)
    renderer, scorer = FakeRenderer(blobs), FakeScorer(blobs)
    renderer.render = in_turn(THINKER["render"], renderer.render)  # pyright: ignore[reportAttributeAccessIssue]
    scorer.score = in_turn(THINKER["score"], scorer.score)  # pyright: ignore[reportAttributeAccessIssue]
    begun, loop = 0.0, asyncio.get_running_loop()
    llm = Thinker()
    async with Session.open(
        "main", config, project=folder, llms={"default": llm}, renderer=renderer, scorer=scorer
    ) as session:
        async for message in session.run():
            if isinstance(message, RewriteRequested) and message.round == 1:
                begun = loop.time()
        seconds = loop.time() - begun
        campaign = session.coordinator.campaign
        print(dict(llm.calls), file=sys.stderr)
        assert campaign.applied == rounds, campaign.stopped
        return 60 * rounds / seconds, campaign.plan.concurrency


def thinker(quick: bool) -> None:
    """slow_thinker_speedup."""
    rounds, repeats = (96, 1) if quick else (96, 3)
    one_by_one: list[float] = []
    ratios: list[float] = []
    in_flight = 0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            many, in_flight = with_skipped_times(thinking_run(Path(place) / "many", rounds, AUTO))
            item, _ = with_skipped_times(thinking_run(Path(place) / "one", rounds, 1))
        one_by_one.append(item)
        ratios.append(many / item)
        print(f"rounds a minute: {item:.2f} and {many:.2f}", file=sys.stderr, flush=True)
    text = ", ".join(f"{name} {seconds:g} s" for name, seconds in THINKER.items())
    say(
        "slow_thinker_speedup", round(median(ratios), 2), unit="ratio", n=repeats,
        lo=round(min(ratios), 2), hi=round(max(ratios), 2),
        how=f"{text}, skipped by the clock; 16 requests at a time; {rounds} rounds of the "
        f"settings of `bigpe init --template sdxl-turbo`; {in_flight} rounds in flight (auto) over "
        f"one, which is {median(one_by_one):.2f} rounds a minute; range of {repeats} runs",
    )  # fmt: skip


def cpu_seconds() -> float:
    """Of this process and its living children, user and system."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return total


class EmbeddedRun(NamedTuple):
    """What a run on the embedded models took, from the pilot's end on."""

    seconds: float
    cpu_s: float
    full_share: float
    """Processor seconds by wall seconds and cores while rounds enough are in flight: from the end
    of the second round to the choice of the last one."""


async def embedded_run(folder: Path, rounds: int, concurrency: int, cores: int) -> EmbeddedRun:
    """A run in a fresh project, its models loaded for it."""
    config = load_config(PACKAGED).model_dump(mode="json")
    config["run"] |= {"rounds": rounds, "concurrency": concurrency}
    marks: list[tuple[float, float]] = []
    async with Session.open("main", config, project=folder) as session:
        async for message in session.run():
            chosen = isinstance(message, RewriteRequested) and message.round in (1, rounds)
            warm = isinstance(message, PoolChanged) and message.round == 2
            if chosen or warm:
                marks.append((time.perf_counter(), cpu_seconds()))
        marks.append((time.perf_counter(), cpu_seconds()))
    (begun, spent), *inner, (ended, total) = marks
    (from_s, from_cpu), (to_s, to_cpu) = inner if len(inner) == 2 else (marks[0], marks[-1])
    share = (to_cpu - from_cpu) / (to_s - from_s) / cores
    return EmbeddedRun(ended - begun, total - spent, share)


async def embedded(quick: bool) -> None:
    """embedded_cpu_share and embedded_over_sequential."""
    rounds, repeats, cores = (4, 1, process_cores()) if quick else (8, 3, process_cores())
    shares: list[float] = []
    whole: list[float] = []
    ratios: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            two = await embedded_run(Path(place) / "two", rounds, 2, cores)
            item = await embedded_run(Path(place) / "one", rounds, 1, cores)
        shares.append(two.full_share)
        whole.append(two.cpu_s / two.seconds / cores)
        ratios.append(item.seconds / two.seconds)
        print(f"one {item}; two {two}", file=sys.stderr, flush=True)
    how = f"{rounds} rounds, 2 in flight, {cores} cores; range of {repeats} runs, the median told"
    say(
        "embedded_cpu_share", round(median(shares), 3), unit="share", n=repeats,
        lo=round(min(shares), 3), hi=round(max(shares), 3),
        how=f"{how}; from the end of round 2 to the choice of the last one, "
        f"{median(whole):.2f} from the pilot's end to the run's",
    )  # fmt: skip
    say(
        "embedded_over_sequential", round(median(ratios), 3), unit="ratio", n=repeats,
        lo=round(min(ratios), 3), hi=round(max(ratios), 3),
        how=f"{how}; time from the pilot's end with one round in flight over that with two",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same thing")
    parser.add_argument(
        "--part", choices=("fakes", "thinker", "embedded"), help="measure only this"
    )
    chosen = parser.parse_args()
    if chosen.part in (None, "fakes"):
        asyncio.run(fakes(chosen.quick))
    if chosen.part in (None, "thinker"):
        thinker(chosen.quick)
    if chosen.part in (None, "embedded"):
        asyncio.run(embedded(chosen.quick))


if __name__ == "__main__":
    main()
