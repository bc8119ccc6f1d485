"""Runs on bigpe's own workers over real HTTP: equal results, failover, refusals."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.http_pictures import Answer, Asked, PictureServer, json_answer, picture
from support.worker_servers import TOKEN, TOKEN_ENV, WorkerServer, render_worker, score_worker

from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.backends import ServiceContext, open_renderer, open_scorer
from bigpe.services.core.errors import ConfigError, RenderError, TransientServiceError
from bigpe.services.core.values import Image, RenderRequest, Score, ScoreRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.service import Renderer
from bigpe.services.score.service import ScoreConfig, Scorer
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import InMemoryCallCache
from bigpe.services.workers import http_app as serve
from bigpe.services.workers import http_pool
from bigpe.services.workers.endpoint import RecentBlobs, render_endpoint
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import CONFIG, NO_WAIT, repeated_calls, run_fake, transcript

Keep = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_ENV, TOKEN)
    monkeypatch.setattr(http_pool, "FIRST_REST_S", 0.01)


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Stops servers at the end."""
    kept: list[Any] = []
    yield lambda server: kept.append(server) or server
    for server in kept:
        (server.stop if isinstance(server, WorkerServer) else server.close)()


def renderer_on(folder: Path, *urls: str, **settings: Any) -> Renderer:
    http = {"urls": urls, "api_key_env": TOKEN_ENV, **settings.pop("http", {})}
    raw = {"backend": "bigpe", "call_timeout_s": 10, "http": http, **settings}
    place = ServiceContext(BlobStore(Project(folder).images), folder, folder / "log")
    return open_renderer(RenderConfig.model_validate(raw), place)


def scorer_on(folder: Path, *urls: str) -> Scorer:
    raw = {"backend": "bigpe", "http": {"urls": urls, "api_key_env": TOKEN_ENV}}
    place = ServiceContext(BlobStore(Project(folder).images), folder, folder / "log")
    return open_scorer(ScoreConfig.model_validate(raw), place)


def requests(*prompts: str) -> list[RenderRequest]:
    return [RenderRequest(prompt=prompt, seed=1) for prompt in prompts]


async def test_a_run_on_workers_is_the_run_on_local_models(tmp_path: Path, keep: Keep) -> None:
    """Also when one of the workers is lost in the middle: nothing is lost or scored twice."""
    await run_fake(tmp_path / "local")
    folder = tmp_path / "far"
    folder.mkdir()
    log = folder / "calls.jsonl"
    first, second = [keep(render_worker(tmp_path / f"w{n}", log=log)) for n in range(2)]
    judge = keep(score_worker(tmp_path / "s"))
    renderer, scorer = renderer_on(folder, first.url, second.url), scorer_on(folder, judge.url)
    async with Session.open(
        "main", CONFIG, project=folder, llms={"default": FakeLlm()}, renderer=renderer,
        scorer=scorer, retry=NO_WAIT,
    ) as session:  # fmt: skip
        seen = 0
        async for message in session.run():
            seen += message.kind == "ImageScored"
            if seen == 20 and message.kind == "ImageScored":
                await asyncio.to_thread(first.stop)
    assert seen > 40
    assert transcript(folder) == transcript(tmp_path / "local")
    # Only what the lost worker was at may be painted again, by the other one.
    assert repeated_calls(folder) <= renderer.parallelism * RenderConfig().max_batch  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_worker_that_comes_back_is_used_again(tmp_path: Path, keep: Keep) -> None:
    worker = render_worker(tmp_path / "w")
    renderer = renderer_on(tmp_path, worker.url, http={"concurrency": 1})
    [before] = await renderer.render(requests("a"))
    worker.stop()
    with pytest.raises(TransientServiceError, match="is the server running"):
        await renderer.render(requests("b"))
    keep(render_worker(tmp_path / "w2", port=worker.port))
    [after] = await renderer.render(requests("a"))
    assert isinstance(before, Image)
    assert before == after
    await renderer.close()


async def test_a_worker_that_is_away_at_the_start_is_done_without(
    tmp_path: Path, keep: Keep
) -> None:
    worker = keep(render_worker(tmp_path / "w"))
    renderer = renderer_on(tmp_path, "http://127.0.0.1:9", worker.url)
    assert await renderer.open() == "fake-renderer"
    assert all(isinstance(request, Image) for request in await renderer.render(requests("a", "b")))
    await renderer.close()


async def test_failures_keep_their_kind(tmp_path: Path, keep: Keep) -> None:
    worker = keep(score_worker(tmp_path / "s"))
    scorer = scorer_on(tmp_path, worker.url)
    blobs = BlobStore(Project(tmp_path).images)
    good = [await FakeRenderer(blobs).render(requests("a fox"))][0][0]
    assert isinstance(good, Image)
    wrong = blobs.put(b"<html>no picture</html>")
    request = [ScoreRequest(image=name, prompt="a") for name in (good.digest, wrong, "0" * 64)]
    score, no_picture, missing = await scorer.score(request)
    assert isinstance(score, Score)
    assert [score] == await FakeScorer(blobs).score(request[:1])
    assert "no picture of a known format" in str(no_picture)
    assert "cannot be read" in str(missing)
    await scorer.close()


async def test_workers_that_differ_are_refused(tmp_path: Path, keep: Keep) -> None:
    class Other(FakeRenderer):
        async def open(self) -> str:
            return "other-renderer"

    blobs = RecentBlobs(tmp_path / "o")
    renders = keep(render_worker(tmp_path / "w"))
    others = keep(WorkerServer(lambda: render_endpoint(Other(blobs.store), blobs, RenderConfig())))
    scores = keep(score_worker(tmp_path / "s"))
    for urls, words in (
        ((renders.url, others.url), "the render workers differ .*fake-ren.*other-re"),
        ((scores.url,), "is no render worker of bigpe, but a score worker"),
    ):
        renderer = renderer_on(tmp_path, *urls)
        with pytest.raises(ConfigError, match=words):
            await renderer.open()
        await renderer.close()
    with pytest.raises(ConfigError, match="start one with `bigpe serve render`"):
        renderer_on(tmp_path)
    with pytest.raises(ConfigError, match=r"\[render\] steps has no effect"):
        renderer_on(tmp_path, renders.url, steps=3)


async def test_a_worker_that_changes_under_a_run_stops_it(tmp_path: Path, keep: Keep) -> None:
    class Changing(PictureServer):
        model = "one"

        def answer(self, request: Asked) -> Answer:
            if request.path == "/v1/health":
                return json_answer({"kind": "render", "fingerprint": self.model})
            png = base64.b64encode(picture(request.json)).decode()
            return json_answer({"fingerprint": self.model, "items": [{"png": png}]})

    server = keep(Changing())
    renderer = renderer_on(tmp_path, server.url)
    [image] = await renderer.render(requests("a"))
    assert isinstance(image, Image)
    server.model = "two"
    with pytest.raises(ConfigError, match="its fingerprint was one and is two"):
        await renderer.render(requests("a"))
    await renderer.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"items": []}, "an item for each"),
        ({"items": ["x"]}, "no objects"),
        ({"items": [{}]}, "must be the base64"),
        ({"items": [{"png": "PHN2Zz4="}]}, "no picture of a known format"),
        ({"items": [{"png": base64.b64encode(picture(1)).decode(), "truncated_tokens": 3}]},
         "malformed"),
        ({"items": [{"error": "stop the run", "kind": "ConfigError"}]}, "stop the run"),
        ({"items": [{"error": "what", "kind": "UnusableAnswerError"}]}, "what"),
    ],
)  # fmt: skip
async def test_answers_of_a_worker_are_not_trusted(
    tmp_path: Path, keep: Keep, answer: dict[str, Any], words: str
) -> None:
    class Rogue(PictureServer):
        def answer(self, request: Asked) -> Answer:
            head = {"kind": "render", "fingerprint": "f"}
            return json_answer(head if request.path == "/v1/health" else head | answer)

    server = keep(Rogue())
    renderer = renderer_on(tmp_path, server.url)
    try:
        [made] = await renderer.render(requests("a"))
    except RenderError as error:
        made = error
    assert isinstance(made, Exception) and not isinstance(made, ConfigError)
    assert words in str(made)
    assert list(BlobStore(Project(tmp_path).images).digests()) == []
    await renderer.close()


# -- the worker's side -----------------------------------------------------------------------------


def ask(worker: WorkerServer, path: str, body: Any = None, token: str = TOKEN) -> httpx2.Response:
    method = "GET" if body is None else "POST"
    content = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx2.Client(trust_env=False) as client:
        return client.request(
            method, worker.url + path, content=None if body is None else content, headers=headers
        )


def test_a_worker_refuses_what_it_should(
    tmp_path: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = keep(render_worker(tmp_path / "w"))
    for path in ("/v1/health", "/v1/render", "/metrics"):
        for token in ("", "wrong", TOKEN + "x"):
            body = {} if path == "/v1/render" else None
            assert ask(worker, path, body, token).status_code == 401
    item = {"prompt": "a", "seed": 1}
    for body, words in (
        (b"{", "not JSON"),
        ([], "not a JSON object"),
        ({}, "must be a list"),
        ({"items": []}, "1 to 256"),
        ({"items": [item] * 257}, "1 to 256"),
        ({"items": [item | {"seed": -1}]}, "seed"),
        ({"items": [item | {"steps": 3}]}, "steps: Extra inputs"),
    ):
        answer = ask(worker, "/v1/render", body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    assert ask(worker, "/v1/score", {"items": [item]}).status_code == 404
    monkeypatch.setattr(serve, "MOST_WAITING", -1)
    busy = ask(worker, "/v1/render", {"items": [item]})
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")
    monkeypatch.undo()
    monkeypatch.setattr(serve, "MOST_BYTES", 10)
    assert "larger than" in ask(worker, "/v1/render", {"items": [item]}).json()["error"]


def test_a_worker_counts_and_does_not_pay_twice(tmp_path: Path, keep: Keep) -> None:
    log = tmp_path / "calls"
    worker = keep(render_worker(tmp_path / "w", log=log))
    body = {"items": [{"prompt": "a", "seed": 1}, {"prompt": "a", "seed": 1}]}
    first, again = ask(worker, "/v1/render", body).json(), ask(worker, "/v1/render", body).json()
    assert first == again
    assert len(log.read_text().splitlines()) == 1
    health = ask(worker, "/v1/health").json()
    assert (health["kind"], health["fingerprint"]) == ("render", "fake-renderer")
    metrics = ask(worker, "/metrics").text
    assert 'bigpe_worker_items_total{kind="render",result="done"} 4.0' in metrics
    assert 'bigpe_worker_waiting_items{kind="render"} 0.0' in metrics


async def test_a_worker_keeps_only_what_is_recent(tmp_path: Path) -> None:
    blobs = RecentBlobs(tmp_path, limit=2)
    names = [blobs.put(bytes([n])) for n in range(2)]
    blobs.touch(names[0])
    names.append(blobs.put(b"x"))
    assert set(blobs.store.digests()) == {names[0], names[2]}
    memo, calls = InMemoryCallCache(limit=2), list[str]()

    async def pay(key: str) -> dict[str, Any]:
        calls.append(key)
        await asyncio.sleep(0)
        return {"key": key}

    async def get(key: str, **how: Any) -> dict[str, Any]:
        return await memo.run(key, "render", {}, lambda: pay(key), **how)

    await asyncio.gather(get("a"), get("a"), get("b"))
    assert calls == ["a", "b"]
    await get("c")
    await get("a")
    await get("a", valid=lambda kept: False)
    assert calls == ["a", "b", "c", "a", "a"]
