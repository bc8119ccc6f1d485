"""Language models over HTTP: a real client against a real, misbehaving server on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, breaks_off, fails, says, sends

from bigpe.services.effects import Effects
from bigpe.services.errors import ConfigError, LlmError, TransientLlmError, UnusableAnswerError
from bigpe.services.llm import (
    LONGEST_ANSWER,
    LlmConfig,
    LlmRequest,
    LlmService,
    Turn,
    client_fingerprint,
    load_client,
)
from bigpe.services.store import Store

PROVIDER = "autogen_ext.models.openai.OpenAIChatCompletionClient"
KEY_NAME = "BIGPE_TEST_KEY"
KEY = "sk-very-secret-0123456789"
ABILITIES = {
    "vision": False,
    "function_calling": False,
    "json_output": True,
    "structured_output": True,
    "family": "unknown",
    "multiple_system_messages": True,
}
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv(KEY_NAME, raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    yield made
    made.close()


def config_for(url: str, *, timeout_s: float = 20.0, **more: Any) -> LlmConfig:
    abilities = ABILITIES | more.pop("abilities", {})
    config = {"model": "test-model", "base_url": url, "model_info": abilities}
    return LlmConfig(provider=PROVIDER, config=config, timeout_s=timeout_s, **more)


@asynccontextmanager
async def service_on(config: LlmConfig, folder: Path) -> AsyncIterator[tuple[LlmService, Effects]]:
    async with Store(folder / "p.db") as store:
        effects = Effects(store)
        service = LlmService(load_client(config), effects, config=config)
        try:
            yield service, effects
        finally:
            await service.close()


def bytes_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def a_request(**changes: Any) -> LlmRequest:
    turns = (
        Turn(role="system", text="Rewrite."),
        Turn(role="user", text="a hat"),
        Turn(role="assistant", text="a hat, felt"),
        Turn(role="user", text="a fox"),
    )
    return LlmRequest(
        **({"turns": turns, "seed": 5, "temperature": 0.3, "max_tokens": 64} | changes)
    )


# -- what is asked, and what is answered ----------------------------------------------------------


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
    told = server.requests[0].get("response_format")
    assert (told and told["type"]) == kind
    if kind == "json_schema":
        assert told["json_schema"]["schema"] == SCHEMA
        assert told["json_schema"]["strict"] is True


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


# -- failures -------------------------------------------------------------------------------------


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
    ("told", "seconds"),
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
    server: FakeServer, tmp_path: Path, told: dict[str, str], seconds: float | None
) -> None:
    server.replies = [fails(429, **told)]
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
            await asyncio.wait_for(llm.ask(a_request()), 20)
        assert (await llm.ask(a_request())).text == "a fox, snow"
    assert server.url in str(caught.value)


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
async def test_an_answer_without_text_is_unusable_and_not_kept(
    server: FakeServer, tmp_path: Path, text: str | None
) -> None:
    server.replies = [says(text), says("a fox, snow")]
    async with service_on(config_for(server.url), tmp_path) as (llm, effects):
        with pytest.raises(UnusableAnswerError, match="no text"):
            await llm.ask(a_request())
        assert (await llm.ask(a_request())).text == "a fox, snow"
        assert (await llm.ask(a_request())).text == "a fox, snow"
        assert effects.paid["llm"] == 2


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
        answer = await asyncio.wait_for(llm.ask(a_request()), 20)
        assert answer.text.startswith("a fox ")
        answer.text.encode("utf-8")
        assert await llm.ask(a_request()) == answer
        other = await asyncio.wait_for(llm.ask(a_request(seed=6)), 20)
        assert other.text == "a hen \x00 🐔"
        assert effects.paid["llm"] == 2


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_in_the_configuration_is_refused() -> None:
    config = LlmConfig(provider=PROVIDER, config={"model": "gpt-4o-mini", "api_key": KEY})
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        load_client(config)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("value", [None, ""])
def test_a_key_variable_that_is_not_set_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv(KEY_NAME, value)
    with pytest.raises(ConfigError, match=f"{KEY_NAME}.*not set"):
        load_client(config_for("http://127.0.0.1:9/v1", api_key_env=KEY_NAME))


async def test_the_key_goes_to_the_server_and_nowhere_else(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    config = config_for(server.url, api_key_env=KEY_NAME)
    async with service_on(config, tmp_path) as (llm, _):
        await llm.ask(a_request())
        assert KEY not in llm.fingerprint
        # Now, because what was written last is in a file beside that goes with the store.
        written = bytes_in(tmp_path)
    assert server.keys == [f"Bearer {KEY}"]
    assert b"a red fox" in written
    assert KEY.encode() not in written


async def test_another_key_asks_the_same_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[str] = []
    for key in (KEY, "sk-another"):
        monkeypatch.setenv(KEY_NAME, key)
        config = config_for("http://127.0.0.1:9/v1", api_key_env=KEY_NAME)
        client = load_client(config)
        found.append(client_fingerprint(client, config))
        await client.close()
    assert found[0] == found[1]


async def test_a_server_that_repeats_the_key_does_not_bring_it_into_the_message(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    server.replies = [fails(401, f"Incorrect API key provided: {KEY}.")]
    config = config_for(server.url, api_key_env=KEY_NAME)
    async with service_on(config, tmp_path) as (llm, _):
        with pytest.raises(LlmError, match="Incorrect API key provided") as caught:
            await llm.ask(a_request())
    assert KEY not in str(caught.value)


def test_a_configuration_that_is_refused_does_not_show_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    config = LlmConfig(provider=PROVIDER, config={}, api_key_env=KEY_NAME)
    with pytest.raises(ConfigError, match="model") as caught:
        load_client(config)
    # Nor a piece of it: pydantic shows the ends of a long input.
    assert not any(KEY[at : at + 6] in str(caught.value) for at in range(len(KEY) - 5))


# -- which code is loaded -------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["os.system", "my_models.Client", "autogen_extra.Client", ""])
def test_a_provider_outside_the_trusted_prefixes_is_refused(provider: str) -> None:
    with pytest.raises(ConfigError, match="allow_providers"):
        load_client(LlmConfig(provider=provider))


def test_a_provider_that_is_allowed_by_name_is_loaded() -> None:
    told = {"provider": "support.fakes.FakeLlm", "allow_providers": ("support.fakes.",)}
    with pytest.raises(ConfigError, match="not trusted"):
        load_client(LlmConfig(provider="support.fakes.FakeLlm"))
    # The fake is no component, which is found out only once its module is imported.
    with pytest.raises(ConfigError, match="support.fakes.FakeLlm") as caught:
        load_client(LlmConfig(**told))
    assert "not trusted" not in str(caught.value)


@pytest.mark.parametrize(
    "provider",
    [
        "autogen_ext.models.nowhere.Client",
        "autogen_ext.models.openai.NoSuchClient",
        "autogen_ext.models.",
        "bigpe.services.store.Store",
        "bigpe.services.values.digest",
    ],
)
def test_a_provider_that_is_no_model_client_is_told_by_name(provider: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_client(LlmConfig(provider=provider))
    assert provider in str(caught.value)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({}, "model"),
        ({"model": 5}, "model"),
        ({"model": "test-model", "base_url": "http://127.0.0.1:9/v1"}, "model_info"),
        ({"model": "gpt-4o-mini"}, "api_key"),
        ({"model": "gpt-4o-mini", "temperature": "hot"}, "temperature"),
    ],
)
def test_a_configuration_that_the_client_refuses_is_told(config: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_client(LlmConfig(provider=PROVIDER, config=config))
