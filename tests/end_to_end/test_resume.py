"""A run that is killed, paused or run twice ends as one that was left alone."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.fake_cli import start_run

from bigpe.agents.messages.core import PoolChanged
from bigpe.services.core.errors import ConfigError, RunLockedError
from bigpe.testing.runs import CONFIG, open_fake, repeated_calls, run_fake, transcript

LATEST_S = 240.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    asyncio.run(run_fake(folder))
    return folder


def wait_for_messages(folder: Path, count: int) -> None:
    """Until the transcript holds `count` messages."""
    deadline = time.monotonic() + LATEST_S
    while time.monotonic() < deadline:
        if (folder / "bigpe.db").exists():
            try:
                if len(transcript(folder)) >= count:
                    return
            except Exception:  # noqa: BLE001 - the tables may not be there yet
                pass
        time.sleep(0.01)
    raise TimeoutError(f"no {count} messages in {LATEST_S} s")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_killed_run_resumes_to_the_same_end(
    undisturbed: Path, tmp_path: Path, share: float
) -> None:
    whole = transcript(undisturbed)
    process = start_run(tmp_path, CONFIG, 0.01)
    wait_for_messages(tmp_path, int(share * len(whole)))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert transcript(tmp_path) < whole, "what was committed is a part of the undisturbed run"
    finish = start_run(tmp_path, CONFIG, 0.0)
    _, text = finish.communicate(timeout=LATEST_S)
    assert finish.returncode == 0, text
    assert transcript(tmp_path) == whole
    # Calls in flight at the kill may be paid twice; nothing else.
    assert repeated_calls(tmp_path) <= 16


def test_a_run_killed_many_times_still_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    whole = transcript(undisturbed)
    rng = random.Random(7)
    for _ in range(4):
        before = len(transcript(tmp_path)) if (tmp_path / "bigpe.db").exists() else 0
        process = start_run(tmp_path, CONFIG, 0.01)
        wait_for_messages(tmp_path, min(before + rng.randrange(5, 60), len(whole)))
        process.kill()
        process.communicate()
    finish = start_run(tmp_path, CONFIG, 0.0)
    _, text = finish.communicate(timeout=LATEST_S)
    assert finish.returncode == 0, text
    assert transcript(tmp_path) == whole


async def test_a_paused_run_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    async with open_fake(tmp_path) as session:
        async for message in session.run():
            if isinstance(message, PoolChanged) and message.round == 4:
                session.pause()
        assert not session.complete
    async with open_fake(tmp_path) as session:
        async for _ in session.run():
            pass
        assert session.complete
    assert transcript(tmp_path) == transcript(undisturbed)


async def test_the_same_seed_gives_the_same_run(undisturbed: Path, tmp_path: Path) -> None:
    await run_fake(tmp_path, delay_s=0.003)
    assert transcript(tmp_path) == transcript(undisturbed)


async def test_another_seed_gives_another_run(undisturbed: Path, tmp_path: Path) -> None:
    await run_fake(tmp_path, {"run": {**CONFIG["run"], "seed": 12}})
    assert transcript(tmp_path) != transcript(undisturbed)


async def test_a_complete_run_is_left_alone(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    before = (tmp_path / "calls.jsonl").read_bytes(), transcript(tmp_path)
    await run_fake(tmp_path)
    assert ((tmp_path / "calls.jsonl").read_bytes(), transcript(tmp_path)) == before


async def test_the_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    async with open_fake(tmp_path):
        with pytest.raises(RunLockedError, match=str(os.getpid())):
            async with open_fake(tmp_path):
                pass


async def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    with pytest.raises(ConfigError, match=r"run\.seed: 11 -> 12 \(needs a fork\)"):
        async with open_fake(tmp_path, {"run": {**CONFIG["run"], "seed": 12}}):
            pass


async def test_two_runs_share_a_project_and_what_was_paid(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    await run_fake(tmp_path, name="again")
    # The same seed asks for the same things. Only unusable answers are asked for again.
    assert repeated_calls(tmp_path, "render") == 0


async def test_the_loop_finds_what_the_scorer_likes(tmp_path: Path) -> None:
    config = {"run": {**CONFIG["run"], "rounds": 25, "batch_size": 5, "pilot_prompts": 5}}
    async with open_fake(tmp_path, config) as session:
        async for _ in session.run():
            pass
        rows = session.pool.rows()
        best = session.pool.best()
    seeds = [row.mean for row in rows if row.parent is None and row.mean is not None]
    assert best.mean is not None and best.mean > max(seeds)
