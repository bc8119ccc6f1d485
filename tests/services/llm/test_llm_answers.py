"""Language models over HTTP: a real server that fails, or answers what cannot be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.http_llm import FakeServer, breaks_off, fails, says, sends
from support.llm_services import a_request, config_for, service_on

from bigpe.services.core.errors import LlmError, TransientLlmError, UnusableAnswerError
from bigpe.services.llm.service import LONGEST_ANSWER


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_may_be_tried_again(
    server: FakeServer, tmp_path: Path, status: int
) -> None:
    server.replies = [fails(status, "too many cooks"), says("a fox, snow")]
    async with service_on(config_for(server.url), tmp_path) as (llm, effects):
        with pytest.raises(TransientLlmError) as caught:
            await llm.ask(a_request())
        assert len(server.requests) == 1  # bigpe's own retries are the only ones
        assert (await llm.ask(a_request())).text == "a fox, snow"
        assert effects.paid["llm"] == 2
    for word in (server.url, str(status), "too many cooks"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("result", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "1.5"}, 1.5),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry_After": "Wed, 21 Oct 9015 07:28:00 GMT"}, 1e9),
        ({"Retry_After": "-3"}, 0.0),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "inf"}, None),
        ({}, None),
    ],
)
async def test_a_server_may_say_how_long_it_is_busy(
    server: FakeServer, tmp_path: Path, result: dict[str, str], seconds: float | None
) -> None:
    server.replies = [fails(429, **result)]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        with pytest.raises(TransientLlmError) as caught:
            await llm.ask(a_request())
    wait = caught.value.retry_after_s
    assert wait == seconds or (seconds == 1e9 and wait is not None and wait > 1e9)


@pytest.mark.parametrize("manner", ["hang", "drip"])
async def test_a_server_that_does_not_finish_in_time_may_be_tried_again(
    server: FakeServer, tmp_path: Path, manner: str
) -> None:
    server.replies = [getattr(server, manner), says("a fox, snow")]
    async with service_on(config_for(server.url, timeout_s=0.5), tmp_path) as (llm, _):
        with pytest.raises(TransientLlmError, match="no answer in 0.5 s") as caught:
            await asyncio.wait_for(llm.ask(a_request()), 60)
        assert (await llm.ask(a_request())).text == "a fox, snow"
    assert server.url in str(caught.value)


@pytest.mark.usefixtures("server")
async def test_a_server_that_is_not_there_may_be_tried_again(tmp_path: Path) -> None:
    gone = FakeServer()
    gone.close()
    async with service_on(config_for(gone.url), tmp_path) as (llm, _):
        with pytest.raises(TransientLlmError, match="is the server running") as caught:
            await llm.ask(a_request())
    assert gone.url in str(caught.value)


async def test_a_connection_that_breaks_off_may_be_tried_again(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [breaks_off, says("a fox, snow")]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        with pytest.raises(TransientLlmError) as caught:
            await llm.ask(a_request())
        assert (await llm.ask(a_request())).text == "a fox, snow"
    assert server.url in str(caught.value)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "check the model and its settings"),
        (401, "check the key"),
        (403, "check the key"),
        (404, "check base_url and model"),
    ],
)
async def test_a_refusal_is_final_and_says_what_to_check(
    server: FakeServer, tmp_path: Path, status: int, remedy: str
) -> None:
    server.replies = [fails(status)]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        with pytest.raises(LlmError, match=remedy) as caught:
            await llm.ask(a_request())
    assert not caught.value.transient
    assert server.url in str(caught.value) and str(status) in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>It works!</html>", "text/html"),
        ("{oops", "application/json"),
        ("", "application/json"),
        ("[]", "application/json"),
        ('{"model": "test-model", "choices": []}', "application/json"),
        ('{"model": "test-model", "choices": null}', "application/json"),
    ],
)
async def test_a_body_that_is_no_chat_completion_is_told_and_not_kept(
    server: FakeServer, tmp_path: Path, body: str, kind: str
) -> None:
    server.replies = [sends(200, body, kind), says("a fox, snow")]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        with pytest.raises(LlmError, match="no chat completion") as caught:
            await llm.ask(a_request())
        assert (await llm.ask(a_request())).text == "a fox, snow"
    assert server.url in str(caught.value) and "check base_url" in str(caught.value)
    assert not caught.value.transient


@pytest.mark.parametrize("text", ["", " \n", None])
async def test_an_answer_without_text_is_given_as_it_is(
    server: FakeServer, tmp_path: Path, text: str | None
) -> None:
    server.replies = [says(text, finish="length")]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        answer = await llm.ask(a_request())
    assert (answer.text, answer.finish_reason) == (text or "", "length")


async def test_a_huge_answer_is_unusable_and_its_beginning_is_kept_for_the_reader(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [says("a fox, " + "z" * LONGEST_ANSWER), says("a fox, snow")]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        with pytest.raises(UnusableAnswerError, match="more than 65,536") as caught:
            await llm.ask(a_request())
        assert (await llm.ask(a_request())).text == "a fox, snow"
    assert caught.value.raw.startswith("a fox, zzz") and len(caught.value.raw) == LONGEST_ANSWER


async def test_an_answer_of_the_greatest_length_is_taken(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [says("z" * LONGEST_ANSWER)]
    async with service_on(config_for(server.url), tmp_path) as (llm, _):
        assert len((await llm.ask(a_request())).text) == LONGEST_ANSWER


async def test_half_an_emoji_at_the_end_of_an_answer_harms_nothing(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [says("a fox \ud83e"), says("a hen \x00 🐔")]
    async with service_on(config_for(server.url), tmp_path) as (llm, effects):
        answer = await asyncio.wait_for(llm.ask(a_request()), 60)
        assert answer.text.startswith("a fox ")
        answer.text.encode("utf-8")
        assert await llm.ask(a_request()) == answer
        other = await asyncio.wait_for(llm.ask(a_request(seed=6)), 60)
        assert other.text == "a hen \x00 🐔"
        assert effects.paid["llm"] == 2
