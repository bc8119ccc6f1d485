"""Whole runs whose language model, in a real process of its own, breaks on one prompt."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.faulty_backends import FAULT, POISON
from support.paths import import_path

from bigpe.agents.messages.core import ArmPulled, PromptsRewritten, RewriteRequested, StepFailed
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import GivenUpError
from bigpe.services.core.retrying import RetryRule
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeRenderer, FakeScorer
from bigpe.testing.runs import messages_of

RETRY = RetryRule(attempts=4, first_wait_s=0.0, longest_wait_s=0.0)
NOBODY = "no prompt contains this"
CAUSES = {
    "segfault": "the embedded LLM process ended (signal SIGSEGV)",
    "hang": "the embedded LLM process gave no answer in 2 s and was ended",
    "killed": "the embedded LLM process ended (signal SIGKILL, as the system sends when memory",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model never breaks."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch, NOBODY, "none")
        asyncio.run(run(folder))
    return folder


@pytest.fixture(scope="module")
def poison(whole: Path) -> str:
    """A naive prompt of round 1."""
    [request] = messages_of(whole, RewriteRequested)
    return request.tasks[1].naive


def prepare(patch: pytest.MonkeyPatch, poison: str, fault: str) -> None:
    patch.setenv("PYTHONPATH", import_path())
    patch.setenv(POISON, poison)
    patch.setenv(FAULT, fault)
    patch.setattr(
        "bigpe.services.llm.embedded_client.BACKEND", "support.faulty_backends:language_model"
    )
    patch.setattr("bigpe.services.processes.supervised_process.FIRST_BACKOFF_S", 0.01)


async def run(folder: Path, timeout_s: float = 60.0, *, prompts: int = 3) -> None:
    """One round, on the embedded model's own client."""
    weights = folder.parent / "model.gguf"
    weights.touch()
    size = {"rounds": 1, "batch_size": prompts, "pilot_prompts": 2, "concurrency": 1, "seed": 9}
    llm = {"config": {"path": str(weights)}, "timeout_s": timeout_s}
    config: dict[str, Any] = {"run": size, "llm": {"default": llm}}
    blobs = BlobStore(Project(folder).images)
    models: Any = {"renderer": FakeRenderer(blobs), "scorer": FakeScorer(blobs)}
    async with Session.open("main", config, project=folder, retry=RETRY, **models) as session:
        async for _ in session.run():
            pass
        assert session.complete


@pytest.mark.parametrize("fault", list(CAUSES))
async def test_a_prompt_that_breaks_the_model_is_missing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: str, fault: str
) -> None:
    prepare(monkeypatch, poison, fault)
    await run(tmp_path, 2.0 if fault == "hang" else 60.0)
    again, final = messages_of(tmp_path, StepFailed)
    assert (again.attempt, again.will_retry) == (1, True)
    assert (final.attempt, final.will_retry, final.naive) == (2, False, poison)
    for failure in (again, final):
        assert failure.step_kind == "RewriteRequested" and failure.error == "LostWorkerError"
        assert failure.cause.startswith(CAUSES[fault])
        assert failure.usage.calls == 1
    [rewritten] = messages_of(tmp_path, PromptsRewritten)
    assert len(rewritten.rewrites) == 2
    assert poison not in {rewrite.naive for rewrite in rewritten.rewrites}
    [pulled] = messages_of(tmp_path, ArmPulled)
    assert (len(pulled.gains), pulled.missing) == (2, 1)
    assert all(gain.fallback is None and gain.score > 0.1 for gain in pulled.gains)


async def test_a_model_killed_in_the_middle_of_a_call_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path, poison: str
) -> None:
    note = tmp_path / "stuck"
    prepare(monkeypatch, poison, f"stuck once:{note}")
    folder = tmp_path / "p"

    async def kill() -> None:
        while not note.exists():
            await asyncio.sleep(0.01)
        os.kill(int(note.read_text()), signal.SIGKILL)

    killing = asyncio.create_task(kill())
    await run(folder)
    await killing
    [failure] = messages_of(folder, StepFailed)
    assert (failure.attempt, failure.will_retry) == (1, True)
    assert failure.cause.startswith(CAUSES["killed"])
    [before], [after] = messages_of(whole, ArmPulled), messages_of(folder, ArmPulled)
    assert before == after and after.missing == 0


async def test_a_model_that_keeps_dying_stops_the_run_which_goes_on_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch, "", "killed")  # is in every prompt
    with pytest.raises(GivenUpError, match="embedded LLM process died 7 times in a row; .*resume"):
        await run(tmp_path, prompts=8)
    assert not messages_of(tmp_path, PromptsRewritten)
    monkeypatch.setenv(POISON, NOBODY)
    await run(tmp_path, prompts=8)
    [pulled] = messages_of(tmp_path, ArmPulled)
    assert (len(pulled.gains), pulled.missing) == (8, 0)
