"""Short runs on the fakes, in this process or in a separate process that can be killed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

from bigpe.agents.messages.core import Message, parse_message
from bigpe.runtime.evaluation.open_run import EvaluatedRun, open_run_for_evaluation
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.retrying import RetryRule
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer

M = TypeVar("M", bound=Message)
CONFIG: dict[str, Any] = {
    "run": {"rounds": 10, "batch_size": 3, "concurrency": 2, "pilot_prompts": 3, "seed": 11}
}
NO_WAIT = RetryRule(attempts=2, first_wait_s=0.0, longest_wait_s=0.0)


def open_fake(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    delay_s: float = 0.0,
    renderer: FakeRenderer | None = None,
    llm: FakeLlm | None = None,
    name: str = "main",
) -> AbstractAsyncContextManager[Session]:
    """Open a session on the fakes. Their calls are logged to `calls.jsonl` in the project.

    The folder is made if it is missing. Without `config` the run has 10 rounds of 3 prompts
    (`CONFIG`). `delay_s` is the duration of each call of a fake, seconds. `renderer` and `llm`
    replace the fakes.
    """
    blobs = BlobStore(Project(folder).images)
    log = folder / "calls.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    return Session.open(
        name,
        CONFIG if config is None else config,
        project=folder,
        llms={"default": llm or FakeLlm(delay_s=delay_s, log=log)},
        renderer=renderer or FakeRenderer(blobs, delay_s=delay_s, log=log),
        scorer=FakeScorer(blobs),
        retry=NO_WAIT,
    )


def open_fake_evaluated(
    folder: Path, *, name: str = "main", renderer: FakeRenderer | None = None, **models: Any
) -> AbstractAsyncContextManager[EvaluatedRun]:
    """Open a stored run on the fakes for an evaluation. Calls are logged as in `open_fake`.

    `renderer`, `llm` and `scorer` replace the fakes. The other `models` are arguments of
    `open_run_for_evaluation`.
    """
    blobs = BlobStore(Project(folder).images)
    log = folder / "calls.jsonl"
    return open_run_for_evaluation(
        name,
        project=folder,
        llms={"default": models.pop("llm", None) or FakeLlm(log=log)},
        renderer=renderer or FakeRenderer(blobs, log=log),
        scorer=models.pop("scorer", None) or FakeScorer(blobs),
        **models,
    )


async def run_fake(folder: Path, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
    """Run to the end. The arguments are those of `open_fake`."""
    async with open_fake(folder, config, **kwargs) as session:
        async for _ in session.run():
            pass


def transcript(folder: Path) -> set[tuple[str, str]]:
    """(message id, JSON) of each message. Equal for a resumed and an uninterrupted run."""
    return set(_stored_messages(folder))


def messages_of(folder: Path, kind: type[M]) -> list[M]:
    """The messages of one kind in a project with one run, in the order of the transcript."""
    messages = [parse_message(body) for _, body in _stored_messages(folder)]
    return [message for message in messages if isinstance(message, kind)]


def _stored_messages(folder: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(f"{(folder / 'bigpe.db').as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT mid, body FROM message ORDER BY seq").fetchall()
    finally:
        connection.close()


def repeated_calls(folder: Path, kind: str | None = None) -> int:
    """Number of calls that a fake received a second time; 0 if each call was paid once.

    `kind`: "llm" or "render"; None: both.
    """
    lines = (folder / "calls.jsonl").read_text().splitlines()
    calls = [call for line in lines if kind in (None, (call := json.loads(line))[0])]
    return sum(count - 1 for count in Counter(map(json.dumps, calls)).values())
