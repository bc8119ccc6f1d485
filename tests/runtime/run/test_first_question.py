"""A run asks its language model one question before it pays for pictures."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, breaks_off
from support.probed_servers import Quirk, answers, knows_no_model, llm_section, refuses_the_key

from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.probe.first_question import first_question
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import BigpeError, ConfigError
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeRenderer, FakeScorer
from bigpe.testing.runs import NO_WAIT, transcript

RUN = {"rounds": 1, "batch_size": 2, "pilot_prompts": 2, "outage_minutes": 0}
QUESTION = "the word: ready"


async def run(folder: Path, llm: dict[str, Any], lines: list[str] | None = None) -> None:
    """A run to its end; `lines`: what it says of its question; None: it asks none."""
    blobs = BlobStore(Project(folder).images)
    renderer = FakeRenderer(blobs, log=folder / "calls.jsonl")
    before = None if lines is None else first_question(lines.append)
    async with Session.open(
        "main", {"run": RUN, "llm": {"default": llm}}, project=folder, retry=NO_WAIT,
        renderer=renderer, scorer=FakeScorer(blobs), before_start=before,
    ) as session:  # fmt: skip
        async for _ in session.run():
            pass


def questions(server: FakeServer) -> int:
    return sum(QUESTION in str(request["messages"]) for request in server.requests)


@pytest.mark.parametrize("quirk", [refuses_the_key, knows_no_model])
async def test_a_wrong_setting_ends_before_a_picture_and_leaves_no_run(
    server: FakeServer, tmp_path: Path, quirk: Quirk
) -> None:
    server.replies = [answers(server, quirk)]
    with pytest.raises(ConfigError, match=r"HTTP 4"):
        await run(tmp_path, llm_section(server.url), [])
    assert len(server.requests) == 1 and not (tmp_path / "calls.jsonl").exists()
    with sqlite3.connect(tmp_path / "bigpe.db") as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (0,)
    server.replies = [answers(server)]
    await run(tmp_path, llm_section(server.url, timeout_s=30), [])
    assert (tmp_path / "calls.jsonl").exists(), "the mended configuration needs no fork"


async def test_a_server_that_is_down_is_no_wrong_setting(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [breaks_off]
    with pytest.raises(BigpeError) as caught:
        await run(tmp_path, llm_section(server.url), [])
    assert not isinstance(caught.value, ConfigError)
    assert not (tmp_path / "calls.jsonl").exists()


async def test_the_question_is_asked_once_and_is_no_part_of_the_transcript(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [answers(server)]
    lines: list[str] = []
    for folder in (tmp_path / "with", tmp_path / "without"):
        folder.mkdir()
    await run(tmp_path / "with", llm_section(server.url), lines)
    assert questions(server) == 1 and len(lines) == 2
    await run(tmp_path / "without", llm_section(server.url))
    assert transcript(tmp_path / "with") == transcript(tmp_path / "without")
    await run(tmp_path / "with", llm_section(server.url), lines)
    assert questions(server) == 1, "a stored run is not asked again"


async def test_a_stored_answer_is_no_check(server: FakeServer, tmp_path: Path) -> None:
    server.replies = [answers(server)]
    await run(tmp_path, llm_section(server.url), [])
    blobs = BlobStore(Project(tmp_path).images)
    async with Session.open(
        "second", {"run": RUN, "llm": {"default": llm_section(server.url)}}, project=tmp_path,
        renderer=FakeRenderer(blobs), scorer=FakeScorer(blobs),
        before_start=first_question([].append),
    ):  # fmt: skip
        pass
    assert questions(server) == 2
    with sqlite3.connect(tmp_path / "bigpe.db") as connection:
        paid = connection.execute(
            "SELECT run, actor, round FROM payment WHERE kind = 'llm' AND round = 0"
        ).fetchall()
    assert sorted(paid) == [("main", "generator", 0), ("second", "generator", 0)]
