"""A whole run on a thinking, chatty or fenced model is the run on a model that answers plainly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, says
from support.llm_services import config_for

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import (
    ArmPulled,
    GradientsComputed,
    InstructionsProposed,
    PoolChanged,
    PromptsRewritten,
)
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.values import derive_seed
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import GOOD_WORDS, FakeRenderer, FakeScorer
from bigpe.testing.runs import NO_WAIT, messages_of, transcript

RUN = {"rounds": 5, "batch_size": 3, "concurrency": 2, "pilot_prompts": 3, "seed": 11}
Package = Callable[[str, bool], str]
"""Packages an answer; the second argument says whether it is a rewrite."""


def good_answer(request: dict[str, Any]) -> tuple[str, bool]:
    """What a capable model says, and whether it is a rewrite."""
    question = str(request["messages"][-1]["content"])
    system = str(request["messages"][0]["content"]).partition("\n\nYour last answer")[0]
    number = derive_seed(question, system)
    schema = request.get("response_format", {}).get("json_schema", {}).get("schema", {})
    fields = schema.get("properties", {})
    lines = question.splitlines()
    if "improvements" in fields:
        change = {"change": f"Name light {number}", "reason": "it paid", "rows": []}
        return json.dumps({"inference": "The light.", "improvements": [change]}), False
    if "improvement" in fields:
        better = [line[8:] for line in lines if line.startswith("better: ")]
        rows = [line.split()[0] for line in lines if line[:1] == "E" and line[1:2].isdigit()]
        wish = f"Add {better[0]}." if better else "Avoid what is worse."
        return json.dumps({"improvement": wish, "inference": "So.", "evidence": rows}), False
    if "change" in fields:
        text = f"Name the light.\nUse style {number}."
        return json.dumps({"instruction": text, "change": "another style"}), False
    if "instruction" in fields:
        names = [line[6:] for line in lines if line.startswith("name: ")]
        return json.dumps({"instruction": f"Enrich the picture, with {names[0]}."}), False
    return f"{question.strip()}, {GOOD_WORDS[number % len(GOOD_WORDS)]} light", True


def plain(text: str, rewrite: bool) -> str:
    return text


PACKAGES: dict[str, Package] = {
    "thoughts": lambda text, _: f"<think>\nOkay: {{a}} cat.\n</think>\n\n{text}",
    "unopened thoughts": lambda text, _: f"Okay, a cat.\n</think>\n\n{text}",
    "fences": lambda text, _: f"Here is what you asked for:\n\n```json\n{text}\n```\nEnjoy!",
    "chat": lambda text, rewrite: (
        f"Sure! Here is the rewritten prompt:\n\n**{text}**\n\nI added light."
        if rewrite
        else f"Sure! {text} Let me know if you need more."
    ),
    "labels": lambda text, rewrite: f"**Prompt:** {text}" if rewrite else f"Answer: {text}",
    "objects": lambda text, rewrite: json.dumps({"prompt": text}) if rewrite else f"[{text}]",
    "flags": lambda text, rewrite: f"{text} --ar 16:9 --v 6" if rewrite else text,
}


def serve(server: FakeServer, package: Package, least: int = 0) -> None:
    """Answer well, packaged. Below `least` tokens the model only thinks."""

    def reply(handler: Any) -> None:
        request = handler.asked  # other requests may have come meanwhile
        limit = request.get("max_tokens") or request.get("max_completion_tokens") or 10**6
        if limit < least:
            says("<think>Okay, let me", finish="length")(handler)
        else:
            says(package(*good_answer(request)))(handler)

    server.replies = [reply]


async def run(folder: Path, url: str, **config: Any) -> None:
    blobs = BlobStore(Project(folder).images)
    llm = config_for(url).model_dump(mode="json")
    async with Session.open(
        "main",
        {"run": RUN, "llm": {"default": llm}, **config},
        project=folder,
        renderer=FakeRenderer(blobs),
        scorer=FakeScorer(blobs),
        retry=NO_WAIT,
    ) as session:
        async for _ in session.run():
            pass


def decisions(folder: Path) -> set[str]:
    """The transcript without exchanges, notes and the counts of tokens and calls."""
    found = [json.loads(body) for _, body in transcript(folder)]
    kept = [body for body in found if body["kind"] != "LlmTurn"]
    for body in kept:
        for field in ("usage", "used"):
            body.pop(field, None)
        body.pop("plan", None)
        for rewrite in body.get("rewrites", ()):
            rewrite["notes"] = []
    return {json.dumps(body, sort_keys=True) for body in kept}


STYLES = ("free-form", "evidence-worded")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What a plain server leads to, by style."""
    found: dict[str, set[str]] = {}
    for style in STYLES:
        server = FakeServer()
        serve(server, plain)
        folder = tmp_path_factory.mktemp("plain") / "p"
        try:
            asyncio.run(run(folder, server.url, reasoning={"style": style}))
        finally:
            server.close()
        rewrites = [r for m in messages_of(folder, PromptsRewritten) for r in m.rewrites]
        assert rewrites and all(r.fallback is None for r in rewrites)
        worded = [g.composed for m in messages_of(folder, GradientsComputed) for g in m.gradients]
        assert worded and not all(worded)
        found[style] = decisions(folder)
    return found


@pytest.mark.parametrize(
    ("name", "style"),
    [*((name, STYLES[0]) for name in PACKAGES), ("thoughts", STYLES[1]), ("fences", STYLES[1])],
)
async def test_a_packaged_answer_leads_to_the_same_transcript(
    name: str, style: str, server: FakeServer, tmp_path: Path, undisturbed: dict[str, set[str]]
) -> None:
    serve(server, PACKAGES[name])
    await run(tmp_path / "p", server.url, reasoning={"style": style})
    assert decisions(tmp_path / "p") == undisturbed[style]


async def test_a_model_that_needs_room_gets_it(
    server: FakeServer, tmp_path: Path, undisturbed: dict[str, set[str]]
) -> None:
    serve(server, plain, least=4000)
    await run(tmp_path / "p", server.url)
    assert decisions(tmp_path / "p") == undisturbed[STYLES[0]]
    limits = {r.get("max_tokens") or r.get("max_completion_tokens") for r in server.requests}
    assert limits == {1024, 2048, 4096}


async def test_a_model_that_only_thinks_is_named_as_what_it_is(
    server: FakeServer, tmp_path: Path
) -> None:
    serve(server, plain, least=10**6)
    limits = {"generator": {"max_tokens": 16}, "gradient": {"max_tokens": 16}}
    folder = tmp_path / "p"
    await run(folder, server.url, run={**RUN, "rounds": 1}, reasoning=limits)
    [pulled] = messages_of(folder, ArmPulled)
    assert {gain.fault for gain in pulled.gains} == {AnswerFault.ONLY_THOUGHT}
    assert all("[reasoning.generator] max_tokens" in str(gain.fallback) for gain in pulled.gains)
    generated = [r for r in server.requests if "response_format" not in r]
    assert len(generated) == 4 * RUN["batch_size"]


async def test_answers_of_another_shape_are_counted_and_named(
    server: FakeServer, tmp_path: Path
) -> None:
    def other(text: str, rewrite: bool) -> str:
        return text if rewrite else '{"text": "add light"}'

    serve(server, other)
    folder = tmp_path / "p"
    await run(folder, server.url)
    gradients = [g for m in messages_of(folder, GradientsComputed) for g in m.gradients]
    faulty = [g for g in gradients if g.fault is not None]
    assert faulty and {g.fault for g in faulty} == {AnswerFault.SHAPE}
    proposed = messages_of(folder, InstructionsProposed)
    assert all(m.refused and not m.proposals for m in proposed)
    refused = [refusal for m in proposed for refusal in m.refused]
    assert {refusal.fault for refusal in refused} == {AnswerFault.SHAPE}
    counts = messages_of(folder, PoolChanged)[-1].answers
    assert counts.refused_proposals == {AnswerFault.SHAPE: len(refused)}
    assert f"{len(refused)} proposals were refused: shape {len(refused)}" in counts.lines
    named = [r for r in server.requests if "could not be used" in r["messages"][0]["content"]]
    assert named, "the model is told what was wrong"


async def test_what_was_judged_unusable_is_asked_anew_by_the_next_run(
    server: FakeServer, tmp_path: Path
) -> None:
    def refuses(text: str, rewrite: bool) -> str:
        return "I'm sorry, I can't assist with that." if rewrite else text

    folder, blobs = tmp_path / "p", BlobStore(Project(tmp_path / "p").images)
    folder.mkdir()
    models = {"renderer": FakeRenderer(blobs), "scorer": FakeScorer(blobs), "retry": NO_WAIT}
    config = {
        "run": {**RUN, "rounds": 1},
        "llm": {"default": config_for(server.url).model_dump(mode="json")},
    }
    for name, package, fallbacks in (("one", refuses, 3), ("two", plain, 0)):
        serve(server, package)
        async with Session.open(name, config, project=folder, **models) as session:
            pulled = [m async for m in session.run() if isinstance(m, ArmPulled)]
        assert sum(g.fallback is not None for g in pulled[0].gains) == fallbacks
    request_count = len(server.requests)
    async with Session.open("three", config, project=folder, **models) as session:
        async for _ in session.run():
            pass
    assert len(server.requests) == request_count, "what was usable is remembered"
    async with Session.open("four", config, project=folder, fresh=True, **models) as session:
        async for _ in session.run():
            pass
    assert len(server.requests) > request_count
