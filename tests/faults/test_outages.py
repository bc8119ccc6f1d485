"""Whole runs whose language model, painter or scorer is away for a while: real HTTP servers.

The clock is virtual, so an outage lasts as many tries as the server refuses, and no time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.http_llm import FakeServer, fails
from support.http_pictures import A1111Server, Answer, Asked, PictureServer, json_answer
from support.llm_services import config_for
from support.virtual_clock import VirtualClock

from bigpe.agents.messages.core import StepFailed
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import OutageError, QuotaError
from bigpe.services.core.outages.watch import OutageRule, OutageWatch
from bigpe.services.core.values import Score, ScoreRequest
from bigpe.services.llm.config import load_client
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer, rng_of
from bigpe.testing.runs import NO_WAIT, messages_of, transcript

SIZE = {"rounds": 2, "batch_size": 3, "pilot_prompts": 2, "concurrency": 2, "seed": 4}
KEY = "BIGPE_TEST_PICTURE_KEY"
BEGIN = 6
"""Calls of a service before its outage."""


class Trouble(NamedTuple):
    """What a server answers instead of its results."""

    status: int
    words: str = "try later"
    headers: dict[str, str] = {}


class ScoreServer(PictureServer):
    """A score worker of bigpe with scores by chance."""

    def answer(self, requested: Asked) -> Answer:
        if requested.path == "/v1/health":
            return json_answer({"kind": "score", "fingerprint": "f"})
        items = [
            {"value": 0.2 + rng_of(item["prompt"], item["png"]).random() / 10, "fingerprint": "f"}
            for item in requested.json["items"]
        ]
        return json_answer({"fingerprint": "f", "items": items})


class AnyScorer(FakeScorer):
    """Scores any picture, by chance."""

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Exception]:
        values = [0.2 + rng_of(entry.prompt, entry.image).random() / 10 for entry in requests]
        return [Score(value=value, fingerprint="fake-scorer") for value in values]


class Bench:
    """One service over HTTP that can be disturbed; the others are fakes."""

    def __init__(self, kind: str, llm: FakeServer) -> None:
        self.kind = kind
        self.calls = 0
        self.refused = 0
        self.trouble: Callable[[int], Trouble | None] = lambda number: None
        self.config: dict[str, Any] = {"run": SIZE}
        self.server: PictureServer | None = None
        if kind == "llm":
            self.wanted = config_for(llm.url)
            self.config["llm"] = {"default": self.wanted.model_dump()}
            well = llm.answers_well
            llm.replies = [lambda handler: self.reply(handler, well)]
            return
        self.server = A1111Server() if kind == "painter" else ScoreServer()
        section = "render" if kind == "painter" else "score"
        backend = {"painter": "a1111", "scorer": "bigpe"}[kind]
        http = {"urls": [self.server.url], "api_key_env": KEY}
        self.config[section] = {"backend": backend, "http": http}
        real = self.server.answer
        self.server.answer = lambda question: self.answer(question, real)  # pyright: ignore[reportAttributeAccessIssue]

    def fault(self) -> Trouble | None:
        self.calls += 1
        trouble = self.trouble(self.calls)
        self.refused += trouble is not None
        return trouble

    def reply(
        self, handler: BaseHTTPRequestHandler, well: Callable[[BaseHTTPRequestHandler], None]
    ) -> None:
        trouble = self.fault()
        (fails(trouble.status, trouble.words, **trouble.headers) if trouble else well)(handler)

    def answer(self, requested: Asked, real: Callable[[Asked], Answer]) -> Answer:
        trouble = self.fault() if requested.method == "POST" else None
        error = {"error": trouble.words} if trouble else None
        return json_answer(error, trouble.status, **trouble.headers) if trouble else real(requested)

    async def run(self, folder: Path, *, limit_s: float = 600.0, pause_at: int = 0) -> VirtualClock:
        """Run, or go on, to the end; OutageError and QuotaError if the run pauses."""
        blobs, clock = BlobStore(Project(folder).images), VirtualClock()
        fakes: dict[str, Any] = {
            "llms": {"default": FakeLlm()},
            "renderer": FakeRenderer(blobs),
            "scorer": AnyScorer(blobs),
        }
        del fakes[{"llm": "llms", "painter": "renderer", "scorer": "scorer"}[self.kind]]
        if self.kind == "llm":
            fakes["llms"] = {"default": load_client(self.wanted)}
        watch = OutageWatch(OutageRule(limit_s=limit_s), clock)
        async with Session.open(
            "main", self.config, project=folder, retry=NO_WAIT, watch=watch, **fakes
        ) as session:
            if pause_at:
                watch.listen(lambda r: session.pause() if r.outage.tries == pause_at else None)
            async for _ in session.run():
                pass
            assert session.complete or session.pausing
        return clock

    def close(self) -> None:
        if self.server is not None:
            self.server.close()


@pytest.fixture(params=["llm", "painter", "scorer"])
def bench(
    request: pytest.FixtureRequest, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setenv(KEY, "user:secret")
    made = Bench(request.param, server)
    yield made
    made.close()


@pytest.fixture
async def whole(bench: Bench, tmp_path: Path) -> AsyncIterator[set[tuple[str, str]]]:
    """The transcript that an undisturbed server gives."""
    await bench.run(tmp_path / "whole")
    bench.calls = 0
    yield transcript(tmp_path / "whole")


def between(first: int, last: int, *troubles: Trouble) -> Callable[[int], Trouble | None]:
    return lambda number: troubles[number % len(troubles)] if first <= number <= last else None


def state_of(folder: Path) -> tuple[str, str]:
    with closing(sqlite3.connect(folder / "bigpe.db")) as connection:
        return connection.execute("SELECT state, reason FROM run").fetchone()


@pytest.mark.parametrize(
    "troubles",
    [
        (Trouble(503),),
        (Trouble(500), Trouble(502)),
        (Trouble(429, "slow down", {"Retry_After": "130"}),),
    ],
    ids=["503", "500 and 502", "429"],
)
async def test_an_outage_within_the_limit_leaves_the_transcript_of_an_undisturbed_server(
    bench: Bench, tmp_path: Path, whole: set[tuple[str, str]], troubles: tuple[Trouble, ...]
) -> None:
    length = 3 if troubles[0].headers else 14
    bench.trouble = between(BEGIN, BEGIN + length, *troubles)
    clock = await bench.run(tmp_path / "p")
    assert bench.refused == length + 1
    assert clock.at > 20
    assert transcript(tmp_path / "p") == whole


async def test_a_rate_limited_server_gives_the_same_transcript(
    bench: Bench, tmp_path: Path, whole: set[tuple[str, str]]
) -> None:
    """Every third call is refused."""
    bench.trouble = lambda number: Trouble(429) if number % 3 == 1 else None
    await bench.run(tmp_path / "p")
    assert bench.refused >= 3
    assert transcript(tmp_path / "p") == whole
    assert messages_of(tmp_path / "p", StepFailed) == []


async def test_a_longer_outage_pauses_the_run_and_it_goes_on_to_the_same_end(
    bench: Bench, tmp_path: Path, whole: set[tuple[str, str]]
) -> None:
    bench.trouble = between(BEGIN, 10_000, Trouble(503, "model is loading"))
    for _ in range(2):  # also a resume that meets the outage pauses
        with pytest.raises(OutageError, match="model is loading"):
            await bench.run(tmp_path / "p")
        state, reason = state_of(tmp_path / "p")
        assert state == "paused" and "model is loading" in reason
        assert messages_of(tmp_path / "p", StepFailed) == []
        bench.calls = BEGIN
    bench.trouble = lambda number: None
    await bench.run(tmp_path / "p")
    assert transcript(tmp_path / "p") == whole
    assert state_of(tmp_path / "p")[0] == "complete"


async def test_a_pause_ends_the_wait(
    bench: Bench, tmp_path: Path, whole: set[tuple[str, str]]
) -> None:
    bench.trouble = between(BEGIN, 10_000, Trouble(503))
    clock = await bench.run(tmp_path / "p", pause_at=5)
    assert clock.at < 120
    assert state_of(tmp_path / "p") == ("paused", "")
    bench.trouble = lambda number: None
    await bench.run(tmp_path / "p")
    assert transcript(tmp_path / "p") == whole


async def test_a_spent_quota_pauses_at_once(
    bench: Bench, tmp_path: Path, whole: set[tuple[str, str]]
) -> None:
    bench.trouble = between(BEGIN, 10_000, Trouble(402, "insufficient credits"))
    with pytest.raises(QuotaError, match="insufficient credits"):
        await bench.run(tmp_path / "p")
    assert state_of(tmp_path / "p")[0] == "paused"
    assert bench.refused <= 8
    bench.trouble = lambda number: None
    await bench.run(tmp_path / "p")
    assert transcript(tmp_path / "p") == whole


async def test_a_server_that_asks_for_hours_pauses_the_run_at_once(
    bench: Bench, tmp_path: Path
) -> None:
    hours = Trouble(429, json.dumps({"retry_after": 7200}))
    bench.trouble = between(BEGIN, 10_000, hours)
    with pytest.raises(OutageError, match="asks for a wait of 120 minutes"):
        await bench.run(tmp_path / "p")
    assert state_of(tmp_path / "p")[0] == "paused"
    assert bench.refused <= 8
