"""Whole runs whose renderer or scorer, in a real process of its own, breaks on one prompt."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.faulty_backends import FAULT, LOST, MODEL, POISON
from support.paths import import_path

from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import ConfigError, GivenUpError
from bigpe.services.core.retrying import RetryRule
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import run_fake, transcript

RETRY = RetryRule(attempts=4, first_wait_s=0.0, longest_wait_s=0.0)
CAUSES = {
    "segfault": "ended (signal SIGSEGV)",
    "hang": "gave no answer in 2 s and was ended",
    "killed": "ended (signal SIGKILL, as the system sends when memory runs out)",
    "sticky": "failed for good (RuntimeError: CUDA error: device-side assert triggered)",
    "exception": "ValueError: latents of odd shape",
    "nan": "ValueError: Out of range float values are not JSON compliant",
}
SIZE: dict[str, Any] = {
    "rounds": 1, "batch_size": 3, "pilot_prompts": 2, "concurrency": 1, "seed": 9
}  # fmt: skip


def config(**model: Any) -> dict[str, Any]:
    return {"run": SIZE, "render": model, "score": model, "data": {"professional": False}}


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A naive prompt of round 1 that the pilot does not paint."""
    import asyncio

    folder = tmp_path_factory.mktemp("undisturbed")
    asyncio.run(run_fake(folder, config()))
    requests = bodies_of(folder, "RenderRequested")
    pilot = {item["naive"] for item in requests if item["purpose"] == "pilot"}
    return min({item["naive"] for item in requests if item["round"] == 1} - pilot)


@pytest.fixture
def _children(monkeypatch: pytest.MonkeyPatch, poison: str) -> None:
    monkeypatch.setenv("PYTHONPATH", import_path())
    monkeypatch.setenv(POISON, poison)
    monkeypatch.setattr("bigpe.services.render.service.BACKEND", "support.faulty_backends:renderer")
    monkeypatch.setattr(
        "bigpe.services.score.service.BACKEND", "support.faulty_backends:sound_scorer"
    )
    monkeypatch.setattr("bigpe.services.processes.supervised_process.FIRST_BACKOFF_S", 0.01)


def bodies_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(body) for _, body in transcript(folder)]
    return [body for body in found if body["kind"] == kind]


def memoised(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Requests whose results are kept."""
    connection = sqlite3.connect(folder / "bigpe.db")
    rows = connection.execute("SELECT request FROM effect WHERE kind = ?", (kind,)).fetchall()
    connection.close()
    return [json.loads(request) for (request,) in rows]


async def run(folder: Path) -> None:
    llms = {"default": FakeLlm()}
    wanted = config(call_timeout_s=2.0)
    async with Session.open("main", wanted, project=folder, llms=llms, retry=RETRY) as session:
        async for _ in session.run():
            pass
        assert session.complete


def check(folder: Path, poison: str, fault: str, step: str) -> None:
    failures = bodies_of(folder, "StepFailed")
    blamed = {failure["step"] for failure in failures}
    assert blamed, "the poison was met"
    for failure in failures:
        assert failure["scope"]["naive"] == poison, "its company never fails"
        assert failure["step_kind"] == step
        assert CAUSES[fault] in failure["cause"] or "(again)" in failure["cause"]
    tries = sorted((failure["attempt"], failure["will_retry"]) for failure in failures)
    each = [(1, True), (2, False)] if fault in LOST else [(1, False)]
    assert tries == sorted(each * len(blamed))
    pulled = {pull["round"]: pull for pull in bodies_of(folder, "ArmPulled")}
    assert pulled[1]["missing"] == 1 and len(pulled[1]["gains"]) == 2
    assert all(item["score"] > 0.1 for item in bodies_of(folder, "ImageScored"))


@pytest.mark.usefixtures("_children")
@pytest.mark.parametrize("fault", ["segfault", "hang", "sticky", "exception"])
async def test_a_picture_that_breaks_the_renderer_is_missing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: str, fault: str
) -> None:
    monkeypatch.setenv(FAULT, fault)
    await run(tmp_path)
    check(tmp_path, poison, fault, "RenderRequested")
    assert all(poison not in request["prompt"] for request in memoised(tmp_path, "render"))


@pytest.mark.usefixtures("_children")
@pytest.mark.parametrize("fault", ["killed", "nan"])
async def test_a_picture_that_breaks_the_scorer_is_missing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: str, fault: str
) -> None:
    monkeypatch.setenv(FAULT, fault)
    monkeypatch.setattr(
        "bigpe.services.render.service.BACKEND", "support.faulty_backends:sound_renderer"
    )
    monkeypatch.setattr("bigpe.services.score.service.BACKEND", "support.faulty_backends:scorer")
    await run(tmp_path)
    check(tmp_path, poison, fault, "ScoreRequested")
    assert all(poison != request["prompt"] for request in memoised(tmp_path, "score"))


@pytest.mark.usefixtures("_children")
async def test_a_renderer_that_keeps_dying_stops_the_run_which_goes_on_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAULT, "killed")
    monkeypatch.setenv(POISON, "")  # is in every prompt
    with pytest.raises(GivenUpError, match="died 7 times in a row; .*then run `bigpe resume`"):
        await run(tmp_path)
    assert not bodies_of(tmp_path, "ImageScored") and not bodies_of(tmp_path, "RunStopped")
    monkeypatch.setenv(POISON, "no prompt contains this")
    await run(tmp_path)
    assert all(pulled["missing"] == 0 for pulled in bodies_of(tmp_path, "ArmPulled"))


@pytest.mark.usefixtures("_children")
@pytest.mark.parametrize(
    ("kind", "name", "products"),
    [("render", "renderer", "Pictures"), ("score", "scorer", "Scores")],
)
async def test_a_model_that_is_another_one_after_a_restart_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, products: str
) -> None:
    """Its files were changed in the middle of a run; restored, the run goes on."""
    model = tmp_path / "model"
    model.write_text("first")
    monkeypatch.setenv(MODEL, str(model))
    backends = {"render": "sound_renderer", "score": "sound_scorer", kind: f"replaced_{name}"}
    for service, backend in backends.items():
        monkeypatch.setattr(
            f"bigpe.services.{service}.service.BACKEND", f"support.faulty_backends:{backend}"
        )
    with pytest.raises(ConfigError) as refused:
        await run(tmp_path)
    message = str(refused.value)
    assert f"the {name} was started again and is another one now" in message
    assert '\n  weights: "first" -> "second"\n' in message
    assert f"{products} of the two could not be compared. Restore what was changed" in message
    assert all(failure["will_retry"] for failure in bodies_of(tmp_path, "StepFailed"))
    model.write_text("first")
    monkeypatch.setenv(POISON, "no prompt contains this")
    await run(tmp_path)
    assert all(pulled["missing"] == 0 for pulled in bodies_of(tmp_path, "ArmPulled"))
