"""Language models over HTTP: what a real client asks, and what is paid once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, says
from support.llm_services import a_request, config_for, service_on

from bigpe.services.llm.service import Turn

SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}


async def test_an_answer_comes_with_its_usage(server: FakeServer, tmp_path: Path) -> None:
    server.replies = [says("a red fox, snow ❄", finish="length")]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        answer = await llm.ask(a_request())
    assert (answer.text, answer.finish_reason) == ("a red fox, snow ❄", "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)


async def test_the_server_sees_the_turns_and_every_setting(
    server: FakeServer, tmp_path: Path
) -> None:
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        await llm.ask(a_request(stop=("\n",)))
    [seen] = server.requests
    assert seen["path"] == "/v1/chat/completions"
    assert [(m["role"], m["content"]) for m in seen["messages"]] == [
        ("system", "Rewrite."),
        ("user", "a hat"),
        ("assistant", "a hat, felt"),
        ("user", "a fox"),
    ]
    settings = {name: seen.get(name) for name in ("model", "seed", "temperature", "max_tokens")}
    assert settings == {"model": "test-model", "seed": 5, "temperature": 0.3, "max_tokens": 64}
    assert seen["stop"] == ["\n"]
    assert "response_format" not in seen


@pytest.mark.parametrize(
    ("abilities", "kind"),
    [
        ({}, "json_schema"),
        ({"structured_output": False}, "json_object"),
        ({"structured_output": False, "json_output": False}, None),
    ],
)
async def test_a_schema_is_asked_for_as_the_model_is_able(
    server: FakeServer, tmp_path: Path, abilities: dict[str, bool], kind: str | None
) -> None:
    async with service_on(config_for(server.url, abilities=abilities), tmp_path) as (llm, _):
        await llm.ask(a_request(answer_schema=SCHEMA))
    result = server.requests[0].get("response_format")
    assert (result and result["type"]) == kind
    if kind == "json_schema":
        assert result["json_schema"]["schema"] == SCHEMA
        assert result["json_schema"]["strict"] is True


async def test_no_stop_is_sent_when_none_is_wanted(server: FakeServer, tmp_path: Path) -> None:
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        await llm.ask(a_request())
    assert "stop" not in server.requests[0]


# -- paid once ------------------------------------------------------------------------------------


async def test_equal_requests_are_paid_once_now_and_after_reopening(
    server: FakeServer, tmp_path: Path
) -> None:
    config = config_for(server.url)
    async with service_on(config, tmp_path) as (llm, effects):
        answers = await asyncio.gather(*(llm.ask(a_request()) for _ in range(4)))
        answers.append(await llm.ask(a_request()))
        assert effects.paid["llm"] == 1
    async with service_on(config, tmp_path) as (llm, _):
        answers.append(await llm.ask(a_request()))
    assert len(server.requests) == 1
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"temperature": 0.4},
        {"max_tokens": 65},
        {"stop": ("x",)},
        {"answer_schema": SCHEMA},
        {"turns": (Turn(role="user", text="a fox"),)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_request_that_differs_in_anything_is_asked(
    server: FakeServer, tmp_path: Path, change: dict[str, Any]
) -> None:
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        await llm.ask(a_request())
        await llm.ask(a_request(**change))
    assert len(server.requests) == 2


async def test_another_model_does_not_take_the_answer_of_the_first(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [says("a fox"), says("a fox, snow", model="other-model")]
    first = config_for(server.url)
    other = first.model_copy(update={"config": first.config | {"model": "other-model"}})
    for config in (first, other):
        async with service_on(config, tmp_path) as (llm, _):
            await llm.ask(a_request())
    assert [seen["model"] for seen in server.requests] == ["test-model", "other-model"]
