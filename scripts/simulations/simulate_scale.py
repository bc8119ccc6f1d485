"""What a million pictures cost on many workers: a simulation of the loop, event by event.

    python scripts simulations.simulate_scale                      # the table of docs/scaling.md
    python scripts simulations.simulate_scale --render-workers 8 --renders 100000

It runs the loop's own rules: K rounds in flight, round t starts when round t-K is applied; a round
asks the language model for its rewrites, paints and scores them in batches on whichever worker is
free, keeps every message in one journal, then asks for one gradient and one proposal.

Measured here, by this script: the journal's time for a message and the session's own work for a
picture sent to a worker. All else is an ASSUMPTION, named as such in the output; give your own.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import heapq
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Pictures

from bigpe.services.core.values import Image, Json, RenderRequest, ScoreRequest
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Store
from bigpe.services.workers.remote_backends import RemoteRenderer, RemoteScorer

MESSAGES_PER_PICTURE = 4
"""RenderRequested, ImageRendered, ScoreRequested, ImageScored."""
MESSAGES_PER_ROUND = 8
PIXELS = 512


@dataclass(frozen=True)
class Setting:
    """One installation. Times in seconds, money in US dollars."""

    renders: int = 1_000_000
    render_workers: int = 64
    score_workers: int = 0
    """0: a fifth more than the pictures need."""
    rounds_in_flight: int = 64
    prompts_a_round: int = 20
    seeds_a_prompt: int = 4
    render_batch: int = 8
    score_batch: int = 32
    render_s: float = 0.15
    """ASSUMPTION: one picture in a batch: SDXL-Turbo, 512 x 512, 2 steps, a 24 GB GPU."""
    score_s: float = 0.02
    """ASSUMPTION: one picture in a batch: ViT-H/14 in float16, the same GPU."""
    llm_s: float = 2.0
    """ASSUMPTION: median time of one language model call; the spread is log-normal, sigma 0.5."""
    llm_at_a_time: int = 64
    """ASSUMPTION: calls that the provider takes at a time."""
    tokens_in: int = 400
    tokens_out: int = 80
    """ASSUMPTION: of one call."""
    usd_per_million_in: float = 0.15
    usd_per_million_out: float = 0.60
    """ASSUMPTION: a small hosted model's prices."""
    usd_per_gpu_hour: float = 0.70
    """ASSUMPTION: a rented 24 GB GPU."""
    score_workers_per_gpu: int = 4
    worker_death_hours: float = 24.0
    """ASSUMPTION: a worker is lost once per this number of hours; its batch is painted again."""
    message_s: float = 0.0
    """Measured: the journal's time for one message."""
    session_s: float = 0.0
    """Measured: the session's own work for one picture that a worker sends."""


@dataclass
class Outcome:
    """What a simulated run needed."""

    hours: float
    rounds: int
    renders_per_s: float
    render_busy: float
    score_busy: float
    llm_busy: float
    session_busy: float
    """Shares of the time; the session's share counts journal and pictures, on one core."""
    batches_lost: int
    llm_calls: int
    usd_gpu: float
    usd_llm: float


class Station:
    """Servers that take batches from one queue, first come first served."""

    def __init__(self, world: World, servers: int, batch: int, each_s: float) -> None:
        self._world = world
        self._free = servers
        self._batch = batch
        self._each_s = each_s
        self._queue: deque[Callable[[], None]] = deque()
        self.busy_s = 0.0
        self.lost = 0
        self.death_s = 0.0

    def add(self, done: Callable[[], None]) -> None:
        """One more item; `done` is called when it is."""
        self._queue.append(done)
        self._begin()

    def _begin(self) -> None:
        while self._free and self._queue:
            items = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            self._free -= 1
            took = self._each_s * len(items)
            self.busy_s += took
            dies = self.death_s > 0 and self._world.rng.random() < took / self.death_s
            self._world.after(took, lambda items=items, dies=dies: self._end(items, dies))

    def _end(self, items: list[Callable[[], None]], dies: bool) -> None:
        self._free += 1
        if dies:
            self.lost += 1
            self._queue.extendleft(reversed(items))
        else:
            for done in items:
                done()
        self._begin()


class World:
    """The clock, and one run in it."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        self.rng = random.Random(seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        s = setting
        self.renders = Station(self, s.render_workers, s.render_batch, s.render_s)
        self.renders.death_s = 3600 * s.worker_death_hours
        self.scores = Station(self, s.score_workers, s.score_batch, s.score_s)
        self._session_free = 0.0
        self.session_busy_s = 0.0
        self._llm_free = s.llm_at_a_time
        self._llm_queue: deque[Callable[[], None]] = deque()
        self.llm_busy_s = 0.0
        self.llm_calls = 0
        a_round = s.prompts_a_round * s.seeds_a_prompt
        self.rounds = -(-s.renders // a_round)
        self._pictures = a_round
        self._started = 0
        self._finished: set[int] = set()
        self._applied = 0

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do `what` so much later."""
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, what))

    def in_session(self, seconds: float, what: Callable[[], None]) -> None:
        """Do `what` after the session's one thread has worked on it for so long."""
        self._session_free = max(self._session_free, self.now) + seconds
        self.session_busy_s += seconds
        self.after(self._session_free - self.now, what)

    def ask(self, done: Callable[[], None]) -> None:
        """One language model call."""
        self.llm_calls += 1
        self._llm_queue.append(done)
        self._ask_next()

    def _ask_next(self) -> None:
        while self._llm_free and self._llm_queue:
            done = self._llm_queue.popleft()
            self._llm_free -= 1
            took = self.setting.llm_s * self.rng.lognormvariate(0.0, 0.5)
            self.llm_busy_s += took

            def answered(done: Callable[[], None] = done) -> None:
                self._llm_free += 1
                done()
                self._ask_next()

            self.after(took, answered)

    def run(self) -> None:
        """To the last round."""
        self._start_rounds()
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()

    def _start_rounds(self) -> None:
        limit = min(self.rounds, self._applied + self.setting.rounds_in_flight)
        while self._started < limit:
            self._round(self._started)
            self._started += 1

    def _round(self, index: int) -> None:
        s = self.setting
        left = {"pictures": self._pictures}

        def scored() -> None:
            left["pictures"] -= 1
            if not left["pictures"]:
                # One gradient, then one proposal.
                self.ask(lambda: self.ask(lambda: self._finish(index)))

        def painted() -> None:
            self.in_session(
                s.session_s + MESSAGES_PER_PICTURE / 2 * s.message_s,
                lambda: self.scores.add(
                    lambda: self.in_session(MESSAGES_PER_PICTURE / 2 * s.message_s, scored)
                ),
            )

        def rewritten() -> None:
            for _ in range(s.seeds_a_prompt):
                self.renders.add(painted)

        for _ in range(s.prompts_a_round):
            self.ask(rewritten)

    def _finish(self, index: int) -> None:
        """Rounds are applied in order; a later one waits for the earlier ones."""
        self.in_session(MESSAGES_PER_ROUND * self.setting.message_s, lambda: None)
        self._finished.add(index)
        while self._applied in self._finished:
            self._finished.remove(self._applied)
            self._applied += 1
        self._start_rounds()


def simulate(setting: Setting, seed: int = 0) -> Outcome:
    """One run."""
    world = World(setting, seed)
    world.run()
    hours = world.now / 3600
    gpus = setting.render_workers + setting.score_workers / setting.score_workers_per_gpu
    tokens = setting.tokens_in * setting.usd_per_million_in
    tokens += setting.tokens_out * setting.usd_per_million_out
    return Outcome(
        hours=hours,
        rounds=world.rounds,
        renders_per_s=setting.renders / world.now,
        render_busy=world.renders.busy_s / (world.now * setting.render_workers),
        score_busy=world.scores.busy_s / (world.now * setting.score_workers),
        llm_busy=world.llm_busy_s / (world.now * setting.llm_at_a_time),
        session_busy=world.session_busy_s / world.now,
        batches_lost=world.renders.lost,
        llm_calls=world.llm_calls,
        usd_gpu=gpus * hours * setting.usd_per_gpu_hour,
        usd_llm=world.llm_calls * tokens / 1e6,
    )


# -- what is measured ------------------------------------------------------------------------------


async def journal_seconds(messages: int) -> float:
    """The store's time for one message: bodies of 700 bytes, four to a commit, as actors write."""
    body = json.dumps({"text": "x" * 680})
    with tempfile.TemporaryDirectory() as folder:
        async with Store(Path(folder) / "bigpe.db") as store:
            start = time.perf_counter()
            for first in range(0, messages, 4):
                await store.write(
                    [
                        (
                            "put_effect",
                            {
                                "key": f"{first + n:064d}",
                                "kind": "render",
                                "request": body,
                                "result": body,
                                "ms": 0.0,
                                "ts": 0.0,
                            },
                        )
                        for n in range(4)
                    ]
                )
            return (time.perf_counter() - start) / messages


class Echo:
    """A pool whose workers need no time: what is left is the session's own work."""

    parallelism = 1

    def __init__(self, png: bytes) -> None:
        self._item = {"png": base64.b64encode(png).decode(), "truncated_tokens": {}}
        self._item |= {"value": 0.0, "fingerprint": "echo"}

    async def open(self) -> str:
        return "echo"

    async def call(self, payload: Json) -> Json:
        # Through JSON, as over HTTP.
        answer: Json = json.loads(json.dumps({"items": [self._item for _ in payload["items"]]}))
        return answer

    async def close(self) -> None:
        """Nothing to close."""


async def picture_seconds(pictures: int) -> float:
    """The session's CPU time to take one picture of 512 x 512 pixels from a worker, check and keep
    it, and to send it to be scored."""
    noise = np.random.default_rng(0).integers(0, 256, (PIXELS // 4, PIXELS // 4, 3), np.uint8)
    large = Pictures.fromarray(noise).resize((PIXELS, PIXELS), Pictures.Resampling.BICUBIC)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.png"
        large.save(path)
        pool, blobs = Echo(path.read_bytes()), BlobStore(Path(folder) / "images")
        renderer, scorer = RemoteRenderer(pool, blobs), RemoteScorer(pool, blobs)
        requests = [RenderRequest(prompt="x", seed=n) for n in range(4)]
        start = time.process_time()
        for _ in range(pictures // 4):
            made = [
                request for request in await renderer.render(requests) if isinstance(request, Image)
            ]
            await scorer.score([ScoreRequest(image=item.digest, prompt="x") for item in made])
        return (time.process_time() - start) / pictures


def measured(quick: bool) -> tuple[list[float], list[float]]:
    """Repeated measurements of both, seconds."""
    times, size = (3, 40) if quick else (7, 400)
    journal = [asyncio.run(journal_seconds(4 * size)) for _ in range(times)]
    pictures = [asyncio.run(picture_seconds(size)) for _ in range(times)]
    return journal, pictures


def tell(
    figure: str, value: float, unit: str, n: int, lo: float | None, hi: float | None, how: str
) -> None:
    """Print one figure as a JSON line, with its interval and the command that makes it."""
    print(
        json.dumps(
            {"figure": figure, "value": value, "unit": unit, "n": n, "lo": lo, "hi": hi, "how": how}
        ),
        flush=True,
    )


def parse(arguments: list[str] | None = None) -> tuple[Setting, bool]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same thing")
    for name, value in asdict(Setting()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    given = vars(parser.parse_args(arguments))
    quick = bool(given.pop("quick"))
    setting = Setting(**given)
    return (replace(setting, renders=min(setting.renders, 20_000)) if quick else setting), quick


def main() -> None:
    setting, quick = parse()
    journal, pictures = measured(quick)
    for name, found in (("journal_message_ms", journal), ("session_picture_ms", pictures)):
        milli = [1000 * value for value in found]
        tell(name, statistics.median(milli), "ms", len(milli), min(milli), max(milli), "measured")
    setting = replace(
        setting,
        message_s=setting.message_s or statistics.median(journal),
        session_s=setting.session_s or statistics.median(pictures),
    )
    print(f"assumptions: {json.dumps(asdict(setting))}", file=sys.stderr)
    for workers in sorted({1, 8, 16, 32, setting.render_workers, 4 * setting.render_workers}):
        needed = math.ceil(1.2 * workers * setting.score_s / setting.render_s)
        here = replace(
            setting, render_workers=workers, score_workers=setting.score_workers or needed
        )
        found = simulate(here)
        print(f"{workers} workers: {json.dumps(asdict(found))}", file=sys.stderr)
        how = f"simulated, {here.renders} renders; most inputs are assumptions, docs/scaling.md"
        for figure, unit in (
            ("hours", "h"), ("usd_gpu", "USD"), ("usd_llm", "USD"),
            ("render_busy", "share"), ("session_busy", "share"), ("llm_busy", "share"),
        ):  # fmt: skip
            tell(f"scale_{workers}_{figure}", getattr(found, figure), unit, 1, None, None, how)


if __name__ == "__main__":
    main()
