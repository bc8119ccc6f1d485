"""Whole runs on servers of several kinds: each has the transcript of an undisturbed server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, says, sends
from support.llm_oddities import Json, Reply
from support.llm_parameter_oddities import fastapi, gpt5, json_word, without_system

from bigpe.services.llm.config import load_client
from bigpe.services.llm.service import LlmConfig
from bigpe.testing.runs import open_fake, transcript

CONFIG: dict[str, Any] = {
    "run": {"rounds": 3, "batch_size": 2, "pilot_prompts": 2, "concurrency": 1, "seed": 4}
}


def sensible(body: Json) -> str:
    """What a capable model says to the role that asks, whatever the form of the request."""
    request = str(body["messages"][-1]["content"])
    whole = f"{body.get('response_format')} {[turn['content'] for turn in body['messages']]}"
    if "improvement" in whole:
        better = re.search(r"^better: (.*)$", request, re.M)
        wish = f"Add {better[1]}." if better else "Add wild roses."
        rows = re.findall(r"^(E\d+) ", request, re.M)
        made = {"improvement": wish, "inference": "It was so measured.", "evidence": rows[:1]}
        return json.dumps(made)
    if "instruction" in str(body.get("response_format")) or '"instruction"' in whole:
        names = re.search(r"^name: (.*)$", request, re.M)
        wish = names[1] if names else "wild roses"
        return json.dumps({"instruction": f"Enrich the picture, with {wish}."})
    return f"{request.strip()}, golden hour, wild roses"


def mistral(body: Json) -> Reply:
    bad = {"seed", "user", "n"} & body.keys()
    return fastapi(*sorted(bad)) if bad or "name" in body["messages"][-1] else GOOD


def gemma(body: Json) -> Reply:
    return without_system(Reply(400, '{"message": "System role not supported"}'))(body)


GOOD = Reply(200, "")
KINDS: dict[str, Callable[[Json], Reply]] = {
    "GPT-5": gpt5,
    "Mistral": mistral,
    "DeepSeek": json_word,
    "Gemma": gemma,
}


async def run(folder: Path, server: FakeServer, kind: Callable[[Json], Reply] | None) -> int:
    """Run to the end; returns the number of refused requests."""
    refused = 0

    def reply(handler: Any) -> None:
        nonlocal refused
        body = {key: value for key, value in server.requests[-1].items() if key != "path"}
        made = kind(body) if kind else GOOD
        refused += made.status != 200
        if made.status == 200:
            says(sensible(body))(handler)
        else:
            sends(made.status, made.body)(handler)

    server.replies = [reply]
    wanted = LlmConfig(provider="openai-compatible", model="m", base_url=server.url)
    style = {"style": "evidence-worded"}  # the server answers its requests
    whole = CONFIG | {"llm": {"default": wanted.model_dump()}, "reasoning": style}
    async with open_fake(folder, whole, llm=load_client(wanted)) as session:
        async for _ in session.run():
            pass
    return refused


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_run_ends_as_on_an_undisturbed_server(
    kind: str, server: FakeServer, tmp_path: Path
) -> None:
    assert await run(tmp_path / "plain", server, None) == 0
    request_count = len(server.requests)
    refused = await run(tmp_path / "odd", server, KINDS[kind])
    assert 1 <= refused <= 2 * 3  # two rewrites are asked for at a time
    assert len(server.requests) - request_count == request_count + refused
    assert transcript(tmp_path / "odd") == transcript(tmp_path / "plain")


async def test_what_was_learned_is_kept_for_the_next_run(
    server: FakeServer, tmp_path: Path
) -> None:
    assert await run(tmp_path / "p", server, gpt5) > 0
    config = CONFIG | {"run": {**CONFIG["run"], "seed": 5}}
    wanted = LlmConfig(provider="openai-compatible", model="m", base_url=server.url)
    whole = config | {"llm": {"default": wanted.model_dump()}}
    before = len(server.requests)
    async with open_fake(tmp_path / "p", whole, llm=load_client(wanted), name="next") as session:
        async for _ in session.run():
            pass
    later = server.requests[before:]
    assert later and not [body for body in later if "max_tokens" in body or "temperature" in body]
