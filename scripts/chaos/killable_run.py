"""Marks its steps in a process that may be killed at any time (see chaos.activity_marks).

    python -P -m chaos.killable_run serve      one job a line on standard input, a fork for each
    python -P -m chaos.killable_run JOB        this job, here

A fork of an interpreter that has imported everything starts in milliseconds, and is a process as
any other: own memory, own files, own database connections. Jobs and answers are JSON lines.
The product is not changed for this: what it calls is wrapped from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from autogen_core import SingleThreadedAgentRuntime
from autogen_core.models import CreateResult, LLMMessage

from bigpe.agents.actors.journal import Journal
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.values import Image, RenderRequest, Score, ScoreRequest
from bigpe.services.llm import embedded_client
from bigpe.services.render import service as render
from bigpe.services.score import service as score
from bigpe.services.store import migrations
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Params, Statement, Store, many
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import NO_WAIT
from chaos import activity_marks as marking
from chaos.activity_marks import MARKS_ENV, Marks
from chaos.next_release import next_release

LLM_S, RENDER_S, SCORE_S = 0.04, 0.04, 0.02
PUBLISH_S = 0.001
"""Publishing takes microseconds; held open this long, an instant can fall into it."""
ROLES = {"SystemMessage": "system", "UserMessage": "user", "AssistantMessage": "assistant"}


class Job(TypedDict):
    folder: str
    marks: str
    config: dict[str, Any]
    migrate: bool
    """Whether this is the next release, with another schema."""
    embedded: bool
    """Whether to use the embedded models, each in its own process, or fast fakes in this one."""
    sabotage: str
    """See `stages.ForkedStage.sabotage`."""


class MarkedLlm(FakeLlm):
    def __init__(self, marks: Marks) -> None:
        super().__init__(delay_s=LLM_S)
        self._marks = marks

    async def create(
        self, messages: Sequence[LLMMessage], *, extra_create_args: Any = None, **rest: Any
    ) -> CreateResult:
        extra = extra_create_args or {}
        turns = [(ROLES[m.type], str(m.content)) for m in messages]
        key = marking.llm_key(turns, extra["seed"], extra["temperature"], extra["max_tokens"])
        with self._marks.span("llm", key):
            return await super().create(messages, extra_create_args=extra, **rest)


class MarkedRenderer(FakeRenderer):
    def __init__(self, blobs: BlobStore, marks: Marks, *, twice: bool) -> None:
        super().__init__(blobs, delay_s=RENDER_S)
        self._marks = marks
        self._twice = twice

    async def render(self, requests: Sequence[RenderRequest]) -> list[Image | Exception]:
        keys = [marking.render_key(request.model_dump()) for request in requests]
        with self._marks.span("render", *keys):
            made = await super().render(requests)
        if self._twice:
            self._marks.mark("+", "render", *keys)
            self._marks.mark("-", "render", *keys)
        return made


class MarkedScorer(FakeScorer):
    def __init__(self, blobs: BlobStore, marks: Marks) -> None:
        super().__init__(blobs)
        self._marks = marks

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Exception]:
        keys = [marking.score_key(request.model_dump()) for request in requests]
        with self._marks.span("score", *keys):
            await asyncio.sleep(SCORE_S)
            return await super().score(requests)


def _acknowledged(statements: Sequence[Statement]) -> list[str]:
    """What a commit has promised to keep."""
    messages = [row for query, rows in statements if query == "add_messages" for row in _rows(rows)]
    effects = [str(params["key"]) for query, params in statements if query == "put_effect"]
    return [str(row["mid"]) for row in messages] + effects


def _rows(params: Params) -> list[dict[str, Any]]:
    return json.loads(params["rows"])


def _without_turns(statement: Statement) -> Statement:
    query, params = statement
    if query != "add_messages":
        return statement
    kept = [row for row in _rows(params) if row["type"] != "LlmTurn"]
    return many(query, kept, run=params["run"])


def _mark_commits(marks: Marks, *, lose: bool) -> None:
    write = Store.write

    async def marked(self: Store, statements: Iterable[Statement]) -> list[int]:
        listed = list(statements)
        with marks.span("commit"):
            written = await write(self, map(_without_turns, listed) if lose else listed)
            marks.mark("=", "commit", *_acknowledged(listed))
        return written

    Store.write = marked


def _mark_publishing(marks: Marks) -> None:
    publish, send = Journal.publish, SingleThreadedAgentRuntime.publish_message
    resumed = False

    async def slowly(self: SingleThreadedAgentRuntime, *args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(PUBLISH_S)
        await send(self, *args, **kwargs)

    async def marked(self: Journal, *args: Any, **kwargs: Any) -> None:
        nonlocal resumed
        # The first thing that a run publishes is what the last process owed.
        with marks.span("publish") if resumed else nullcontext():
            await publish(self, *args, **kwargs)
        if not resumed:
            resumed = True
            marks.mark("-", "resume")

    SingleThreadedAgentRuntime.publish_message = slowly
    Journal.publish = marked


def _mark_migration(marks: Marks) -> None:
    enter = Store.__aenter__

    async def marked(self: Store) -> Store:
        if not 0 < _schema(self.path) < migrations.VERSION:
            return await enter(self)
        with marks.span("migrate"):
            return await enter(self)

    Store.__aenter__ = marked


def _schema(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


async def _run(job: Job, marks: Marks) -> None:
    folder = Path(job["folder"])
    blobs = BlobStore(Project(folder).images)
    fakes: dict[str, Any] = {}
    if not job["embedded"]:
        fakes = {
            "llms": {"default": MarkedLlm(marks)},
            "renderer": MarkedRenderer(blobs, marks, twice=job["sabotage"] == "repays"),
            "scorer": MarkedScorer(blobs, marks),
        }
    async with Session.open(
        "main", job["config"], project=folder, retry=NO_WAIT, **fakes
    ) as session:
        async for _ in session.run():
            pass


def perform(job: Job) -> None:
    """Start or resume the run, to its end."""
    marks = Marks(job["marks"])
    if job["embedded"]:
        os.environ[MARKS_ENV] = job["marks"]
        render.BACKEND = "chaos.activity_marks:renderer"
        score.BACKEND = "chaos.activity_marks:scorer"
        embedded_client.BACKEND = "chaos.activity_marks:language_model"
    _mark_commits(marks, lose=job["sabotage"] == "loses")
    _mark_publishing(marks)
    _mark_migration(marks)
    marks.mark("+", "resume")
    with next_release(job["migrate"]):
        asyncio.run(_run(job, marks))
    marks.mark("=", "end")


def _forked(job: Job) -> int:
    """Runs in the fork; the exit code."""
    os.dup2(2, 1)
    try:
        perform(job)
    except BaseException:  # noqa: BLE001 - told on stderr; a fork must never return to the loop
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    """A fork for each job; says its pid at once, and its exit code when it has ended."""
    for line in sys.stdin:
        job: Job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_forked(job))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        perform(json.loads(sys.argv[1]))
