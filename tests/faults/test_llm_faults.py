"""Whole runs whose language model is a real HTTP server that misbehaves, once or for good.

No outage is waited for, so each failure is that of its step; test_outages.py waits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, Reply, breaks_off, fails, says, sends
from support.llm_services import config_for

from bigpe.services.llm.config import load_client
from bigpe.testing.runs import open_fake, transcript

CONFIG: dict[str, Any] = {
    "run": {
        "rounds": 2,
        "batch_size": 2,
        "pilot_prompts": 2,
        "concurrency": 1,
        "seed": 4,
        "outage_minutes": 0,
    }
}
PATIENT_S = 20.0
"""A busy machine must not make a good answer late."""
REFUSAL = "I'm sorry, but I cannot help with that."


async def run(
    folder: Path, server: FakeServer, timeout_s: float = PATIENT_S, *, rounds: int = 2
) -> str:
    """Run to the end; the reason that it gave."""
    wanted = config_for(server.url, timeout_s=timeout_s)
    size = {"run": {**CONFIG["run"], "rounds": rounds}}
    # Seed instructions are tried first: a child of equal answers rewrites as its parent does.
    seeds_first = {"policy": {"name": "ucb1"}, "data": {"batches": "shared"}}
    whole = size | seeds_first | {"llm": {"default": wanted.model_dump()}}
    async with open_fake(folder, whole, llm=load_client(wanted)) as session:
        async for _ in session.run():
            pass
        assert session.coordinator.campaign.stopped is not None
        return session.coordinator.campaign.stopped.reason


def bodies_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(body) for _, body in transcript(folder)]
    return [body for body in found if body["kind"] == kind]


def memoised(folder: Path) -> list[str]:
    """Answers of the language model that are kept."""
    connection = sqlite3.connect(folder / "bigpe.db")
    rows = connection.execute("SELECT result FROM effect WHERE kind = 'llm'").fetchall()
    connection.close()
    return [json.loads(result)["text"] for (result,) in rows]


def check_scores(folder: Path) -> None:
    """No failure has become a score of 0, and no gain is of a picture that was not scored."""
    scores = bodies_of(folder, "ImageScored")
    assert scores and all(item["score"] > 0.1 for item in scores)
    for pulled in bodies_of(folder, "ArmPulled"):
        assert len(pulled["gains"]) + pulled["missing"] == 2
        assert all(gain["score"] > 0.1 and gain["naive_score"] > 0.1 for gain in pulled["gains"])
        assert all(gain["gain"] == 0 for gain in pulled["gains"] if gain["fallback"])


@dataclass(frozen=True)
class Trouble:
    reply: Callable[[FakeServer], Reply]
    cause: str
    """Is in the recorded cause."""
    timeout_s: float = PATIENT_S


TRANSIENT = {
    "429, come back soon": Trouble(lambda _: fails(429, Retry_After="0.05"), "HTTP 429: "),
    "500": Trouble(lambda _: fails(500), "HTTP 500: "),
    "a hang": Trouble(lambda server: server.hang, "no answer in 3 s; if it is slow, raise", 3.0),
    "a drip": Trouble(lambda server: server.drip, "no answer in 3 s; if it is slow, raise", 3.0),
    "a cut stream": Trouble(lambda _: breaks_off, "no connection"),
}


@pytest.mark.parametrize("case", list(TRANSIENT))
async def test_what_passes_is_recorded_and_tried_again(
    server: FakeServer, tmp_path: Path, case: str
) -> None:
    trouble = TRANSIENT[case]
    server.replies = [trouble.reply(server), server.answers_well]
    assert await run(tmp_path, server, trouble.timeout_s) == "all 2 rounds are done"
    [failure] = bodies_of(tmp_path, "StepFailed")
    assert trouble.cause in failure["cause"]
    assert (failure["attempt"], failure["will_retry"]) == (1, True)
    assert (failure["step_kind"], failure["error"]) == ("RewriteRequested", "TransientLlmError")
    rewrites = [r for item in bodies_of(tmp_path, "PromptsRewritten") for r in item["rewrites"]]
    assert len(rewrites) == 4 and all(r["fallback"] is None for r in rewrites)
    assert [pulled["missing"] for pulled in bodies_of(tmp_path, "ArmPulled")] == [0, 0]
    # Each request once, and the one that failed once more.
    assert len(server.requests) == len(memoised(tmp_path)) + 1
    check_scores(tmp_path)


@pytest.mark.parametrize("case", ["429, come back soon", "500", "a hang"])
async def test_what_stays_is_missing_and_names_a_remedy(
    server: FakeServer, tmp_path: Path, case: str
) -> None:
    server.replies = [TRANSIENT[case].reply(server)]
    await run(tmp_path, server, 0.5 if case == "a hang" else PATIENT_S)
    failures = bodies_of(tmp_path, "StepFailed")
    assert {(f["attempt"], f["will_retry"]) for f in failures} == {(1, True), (2, False)}
    assert all("; if it " in f["cause"] for f in failures), "each names a remedy"
    assert memoised(tmp_path) == []
    assert [
        (pulled["missing"], pulled["gains"]) for pulled in bodies_of(tmp_path, "ArmPulled")
    ] == [(2, [])] * 2
    check_scores(tmp_path)


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_no_other_try_mends_is_not_tried_again(
    server: FakeServer, tmp_path: Path, status: int
) -> None:
    server.replies = [fails(status)]
    await run(tmp_path, server)
    failures = bodies_of(tmp_path, "StepFailed")
    assert {(f["attempt"], f["will_retry"]) for f in failures} == {(1, False)}
    assert all(f"HTTP {status}: " in f["cause"] and "; check " in f["cause"] for f in failures)
    assert memoised(tmp_path) == []


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (500, 2)])
async def test_one_prompt_that_the_server_refuses_never_fails_its_batch(
    server: FakeServer, tmp_path: Path, status: int, tries: int
) -> None:
    """A content filter, say."""
    refused: list[str] = []

    def reply(handler: Any) -> None:
        request = str(server.requests[-1]["messages"][-1]["content"]).strip()
        refused[:] = refused or [request]
        (fails(status) if request == refused[0] else server.answers_well)(handler)

    server.replies = [reply]
    assert await run(tmp_path, server, rounds=1) == "all 1 rounds are done"
    failures = bodies_of(tmp_path, "StepFailed")
    assert sorted(failure["attempt"] for failure in failures) == list(range(1, tries + 1))
    [final] = [failure for failure in failures if not failure["will_retry"]]
    assert final["scope"]["naive"] == refused[0] and f"HTTP {status}: " in final["cause"]
    [pulled] = bodies_of(tmp_path, "ArmPulled")
    assert (len(pulled["gains"]), pulled["missing"]) == (1, 1)
    assert refused[0] not in memoised(tmp_path)
    check_scores(tmp_path)


async def test_first_rewrites_that_fail_end_the_run_with_the_cause(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [fails(429)]
    reason = await run(tmp_path, server, rounds=9)
    assert reason.startswith("6 of the first 6 rewrites failed, for example")
    assert reason.endswith("if it stays so, lower [run] concurrency")
    assert len(bodies_of(tmp_path, "ArmPulled")) == 3


UNUSABLE = {
    "no text": (says(""), "no text"),
    "two megabytes": (says("word " * 400_000), "more than 65,536"),
    "a refusal": (says(REFUSAL), "the model refused"),
}


@pytest.mark.parametrize("case", list(UNUSABLE))
async def test_an_answer_that_cannot_be_used_falls_back_with_its_cause(
    server: FakeServer, tmp_path: Path, case: str
) -> None:
    reply, cause = UNUSABLE[case]
    server.replies = [reply]
    await run(tmp_path, server)
    rewrites = [r for item in bodies_of(tmp_path, "PromptsRewritten") for r in item["rewrites"]]
    assert len(rewrites) == 4
    assert all(cause in r["fallback"] and r["attempts"] == 3 for r in rewrites)
    assert all(r["text"] == r["naive"] for r in rewrites)
    gains = [gain for pulled in bodies_of(tmp_path, "ArmPulled") for gain in pulled["gains"]]
    assert len(gains) == 4 and all(gain["fallback"] for gain in gains)
    # What was answered is kept; what is too long to be an answer is not.
    assert set(memoised(tmp_path)) <= {REFUSAL, ""}
    check_scores(tmp_path)


@pytest.mark.parametrize("case", list(UNUSABLE))
async def test_once_is_mended_by_another_seed(
    server: FakeServer, tmp_path: Path, case: str
) -> None:
    server.replies = [UNUSABLE[case][0], server.answers_well]
    assert await run(tmp_path, server) == "all 2 rounds are done"
    rewrites = [r for item in bodies_of(tmp_path, "PromptsRewritten") for r in item["rewrites"]]
    assert sorted(r["attempts"] for r in rewrites) == [1, 1, 1, 2]
    assert all(r["fallback"] is None for r in rewrites)
    check_scores(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "{not json",
        "[]",
        '{"model": "test-model", "choices": []}',
        "<html>Welcome to the hotel network</html>",
    ],
)
async def test_what_is_no_completion_is_a_failure_and_never_an_answer(
    server: FakeServer, tmp_path: Path, body: str
) -> None:
    server.replies = [sends(200, body)]
    await run(tmp_path, server)
    failures = bodies_of(tmp_path, "StepFailed")
    assert failures and [f["cause"] for f in failures if "check base_url" not in f["cause"]] == []
    assert {f["attempt"] for f in failures} == {1}
    assert memoised(tmp_path) == []
    check_scores(tmp_path)


async def test_schema_answers_that_are_no_json_leave_the_wording_to_the_evidence(
    server: FakeServer, tmp_path: Path
) -> None:
    def reply(handler: Any) -> None:
        request = server.requests[-1]
        (says("{oops") if "response_format" in request else server.answers_well)(handler)

    server.replies = [reply]
    assert await run(tmp_path, server) == "all 2 rounds are done"
    gradients = [g for item in bodies_of(tmp_path, "GradientsComputed") for g in item["gradients"]]
    assert gradients and all(gradient["composed"] for gradient in gradients)
    check_scores(tmp_path)
