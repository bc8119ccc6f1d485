"""Runs on real Ray actors: as many as there is work for, replaced when they are killed."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray as real_ray
from pydantic import ValidationError
from support.paths import import_path
from support.ray_endpoints import different_end, refusing_end, render_end, score_end

from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.backends import ServiceContext, open_renderer
from bigpe.services.core.errors import ConfigError, GivenUpError, LostWorkerError
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import Image, RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.store.blobs import BlobStore
from bigpe.services.workers import ray_pool
from bigpe.services.workers.config import WorkerScalingConfig, WorkersConfig
from bigpe.services.workers.ray_pool import RayPool
from bigpe.services.workers.remote_backends import RemoteRenderer, RemoteScorer
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import CONFIG, repeated_calls, run_fake, transcript

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Actors import what they serve by name.
        patch.setenv("PYTHONPATH", import_path())
        real_ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
        yield
        real_ray.shutdown()


def pool_of(kind: str, make: Any, **settings: Any) -> RayPool:
    config = WorkerScalingConfig(**{"cpus": 0.25, **settings})
    return RayPool(kind, make, config, address=None, call_timeout_s=30)


SEEDS = itertools.count()


async def pids(renderer: RemoteRenderer, count: int) -> set[int]:
    """The processes that answer `count` calls made at once."""
    # New seeds each time: a worker remembers what it painted a moment ago.
    seeds = itertools.islice(SEEDS, count)
    calls = [renderer.render([RenderRequest(prompt="pid", seed=seed)]) for seed in seeds]
    answers = [first for [first] in await asyncio.gather(*calls)]
    return {answer.truncated_tokens["pid"] for answer in answers if isinstance(answer, Image)}


async def test_a_run_with_killed_workers_is_the_run_without(tmp_path: Path) -> None:
    """Nothing is lost, and nothing is scored twice."""
    await run_fake(tmp_path / "local")
    folder = tmp_path / "far"
    folder.mkdir()
    log = folder / "calls.jsonl"
    blobs = BlobStore(Project(folder).images)
    make = functools.partial(render_end, log=log)
    renderer = RemoteRenderer(pool_of("render", make, max=2), blobs)
    scorer = RemoteScorer(pool_of("score", score_end), blobs)
    killed, parallelism, scored = 0, 2, list[str]()
    async with Session.open(
        "main", CONFIG, project=folder, llms={"default": FakeLlm()}, renderer=renderer,
        scorer=scorer, retry=RetryRule(attempts=4, first_wait_s=0.0, longest_wait_s=0.0),
    ) as session:  # fmt: skip
        async for message in session.run():
            if message.kind == "ImageScored":
                scored.append(message.mid)
                if len(scored) in (12, 30):
                    for pid in await pids(renderer, 1):
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
    assert killed == 2
    assert len(scored) == len(set(scored))
    assert transcript(folder) == transcript(tmp_path / "local")
    painted = [line for line in log.read_text().splitlines() if '"pid"' not in line]
    log.write_text("\n".join(painted))
    assert repeated_calls(folder) <= killed * parallelism * RenderConfig().max_batch


async def test_workers_come_with_work_and_go_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "HEALTH_S", 0.05)
    pool = pool_of("render", functools.partial(render_end, delay_s=0.3), max=3, idle_s=2.0)
    renderer = RemoteRenderer(pool, BlobStore(tmp_path))
    assert await renderer.open() == "fake-renderer"
    assert pool.size == 1
    most = 0
    while most < 3:
        await pids(renderer, 6)
        most = max(most, pool.size)
    assert most == 3
    while pool.size > 1:
        await asyncio.sleep(0.05)
    [last] = await pids(renderer, 1)
    # An idle one that is killed is noticed and replaced before anybody needs it.
    os.kill(last, signal.SIGKILL)
    while await pids(renderer, 1) == {last}:
        await asyncio.sleep(0.05)
    await renderer.close()


async def test_a_deadly_call_is_given_up_and_the_pool_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = RemoteRenderer(pool_of("render", render_end), BlobStore(tmp_path))
    deadly = [RenderRequest(prompt="deadly", seed=1)]
    with pytest.raises(LostWorkerError, match="a render worker is lost"):
        await renderer.render(deadly)
    assert len(await pids(renderer, 1)) == 1
    monkeypatch.setattr(ray_pool, "MOST_LOSSES", 1)
    with pytest.raises(LostWorkerError):
        await renderer.render(deadly)
    with pytest.raises(GivenUpError, match="lost in a row"):
        await renderer.render(deadly)
    await renderer.close()


async def test_workers_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    for make, settings, words in (
        (refusing_end, {}, "there is no such model"),
        (different_end, {"min": 2, "max": 2}, "the render workers differ"),
        (render_end, {"cpus": 64.0}, r"1 workers of 64 CPU each do not fit: this machine has 2"),
    ):
        renderer = RemoteRenderer(pool_of("render", make, **settings), BlobStore(tmp_path))
        with pytest.raises(ConfigError, match=words):
            await renderer.open()
        await renderer.close()


async def test_the_embedded_model_paints_the_same_in_an_actor(tmp_path: Path) -> None:
    config = RenderConfig(steps=2, threads=1)
    wanted = [RenderRequest(prompt="a red fox", seed=seed) for seed in (1, 2)]
    made: list[Any] = []
    for name in ("local", "ray"):
        pool = WorkersConfig.model_validate({"backend": name})
        place = ServiceContext(BlobStore(tmp_path / name), tmp_path, tmp_path / "log", pool)
        renderer = open_renderer(config, place)
        made.append((await renderer.open(), await renderer.render(wanted)))
        await renderer.close()
    assert made[0] == made[1]


def test_counts_are_checked() -> None:
    for wrong in ({"min": 3, "max": 2}, {"min": 0}, {"gpus": -1}, {"cpu": 1}):
        with pytest.raises(ValidationError):
            WorkerScalingConfig.model_validate(wrong)
