"""The embedded language model: the real weights, in their process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken, FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import FunctionTool
from PIL import Image as Pictures
from pydantic import BaseModel

from bigpe.services.core.errors import ConfigError, LlmError, ServiceError
from bigpe.services.llm import smollm_process as smollm_backend
from bigpe.services.llm.config import load_client
from bigpe.services.llm.embedded_client import EmbeddedLlmClient, EmbeddedLlmConfig
from bigpe.services.llm.service import EMBEDDED, LlmConfig
from bigpe.services.models.downloads import SMOLLM2_FILE, SMOLLM2_SHA256, smollm2_path

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"enum": [1, 2]}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def model() -> AsyncIterator[EmbeddedLlmClient]:
    """One process for the tests that leave it as it was."""
    client = EmbeddedLlmClient()
    yield client
    await client.close()


def user(text: str) -> list[LLMMessage]:
    return [UserMessage(content=text, source="user")]


async def answer_to(
    client: ChatCompletionClient, text: str = "Tell of a fox.", **extra: Any
) -> str:
    arguments = {"max_tokens": 12, "temperature": 1.0} | extra
    return str((await client.create(user(text), extra_create_args=arguments)).content)


def workers() -> set[int]:
    """Processes of this one that serve a model."""
    found = psutil.Process().children(recursive=True)
    return {p.pid for p in found if "bigpe.services.processes.worker_main" in " ".join(p.cmdline())}


async def test_a_seed_decides_the_answer_whatever_was_asked_before(
    model: EmbeddedLlmClient,
) -> None:
    first = await answer_to(model, seed=1)
    others = {await answer_to(model, seed=seed) for seed in (2, 3, 4)}
    assert await answer_to(model, seed=1) == first
    assert others - {first}


async def test_another_process_gives_the_same_answer(model: EmbeddedLlmClient) -> None:
    other = EmbeddedLlmClient()
    try:
        assert await answer_to(other, seed=7) == await answer_to(model, seed=7)
    finally:
        await other.close()


async def test_earlier_turns_and_the_system_text_are_heard(model: EmbeddedLlmClient) -> None:
    plain = await answer_to(model, "a fox", temperature=0.0)
    displayed = [
        SystemMessage(content="Answer with one word."),
        UserMessage(content="a hat", source="user"),
        AssistantMessage(content="felt", source="assistant"),
        *user("a fox"),
    ]
    result = await model.create(displayed, extra_create_args={"max_tokens": 12, "temperature": 0.0})
    assert result.content != plain


EXEMPLARS = ("a hat", "a felt hat, soft light", "an owl", "an owl, soft light, oil painting")


def exemplar_turns(naive: str, *exemplars: str) -> list[LLMMessage]:
    """A rewrite as the Generator asks for it."""
    turns: list[LLMMessage] = [SystemMessage(content="Rewrite the prompt. Add details.")]
    for index in range(0, len(exemplars), 2):
        turns.append(UserMessage(content=exemplars[index], source="user"))
        turns.append(AssistantMessage(content=exemplars[index + 1], source="assistant"))
    return [*turns, *user(naive)]


async def rewritten(client: ChatCompletionClient, naive: str, *exemplars: str) -> str:
    arguments = {"max_tokens": 24, "temperature": 1.0, "seed": 5}
    turns = exemplar_turns(naive, *exemplars)
    return str((await client.create(turns, extra_create_args=arguments)).content)


async def test_what_was_read_before_changes_no_answer(model: EmbeddedLlmClient) -> None:
    """Neither a head that is kept, nor one that begins like it, nor one that was dropped."""
    fresh = EmbeddedLlmClient()
    try:
        for begun in ("an owl in snow", "an owl in rain"):  # they begin with the same words
            await rewritten(model, begun, *EXEMPLARS)
        await rewritten(model, "an owl at sea", *EXEMPLARS[:2])
        result = await rewritten(model, "an owl in fog", *EXEMPLARS)
        assert result == await rewritten(fresh, "an owl in fog", *EXEMPLARS)
        for index in range(6):  # more heads than are kept
            await rewritten(model, "a boat", "a cup", f"a cup, number {index}")
        assert result == await rewritten(model, "an owl in fog", *EXEMPLARS)
    finally:
        await fresh.close()


async def test_a_model_with_other_marks_keeps_nothing_and_answers_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = [{"role": "system", "content": "Add details."}, {"role": "user", "content": "a fox"}]
    request = {"messages": turns, "max_tokens": 12, "temperature": 0.0}
    settings = {"path": str(smollm2_path()), "threads": 1}
    existing = smollm_backend.open_backend(settings).handle("chat", request)
    monkeypatch.setattr(smollm_backend, "TURN", "<s>")
    other = smollm_backend.open_backend(settings)
    for _ in range(2):
        answer = other.handle("chat", request)
        assert answer["choices"] == existing["choices"]
        assert answer["timings"]["cache_n"] == 0 < existing["timings"]["cache_n"]


async def test_a_prompt_that_is_too_long_is_refused_and_the_next_is_answered(
    model: EmbeddedLlmClient,
) -> None:
    with pytest.raises(LlmError, match="refused"):
        await rewritten(model, "a fox", "a hat", "word " * 3000)
    assert await rewritten(model, "a fox", *EXEMPLARS)


@pytest.mark.parametrize(
    ("cores", "threads", "parallelism"), [("2", 1, 2), ("2", 2, 1), ("1", 1, 1)]
)
async def test_as_many_answers_at_a_time_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, cores: str, threads: int, parallelism: int
) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", cores)
    client = EmbeddedLlmClient(EmbeddedLlmConfig(threads=threads))
    assert client.parallelism == parallelism
    await client.close()


async def test_an_answer_ends_at_the_token_limit_and_at_the_stop(model: EmbeddedLlmClient) -> None:
    short = await model.create(
        user("Count to ten: 1, 2,"), extra_create_args={"max_tokens": 3, "temperature": 0.0}
    )
    assert short.finish_reason == "length"
    assert short.usage.completion_tokens == 3
    whole = await answer_to(model, temperature=0.0)
    stop = whole.split()[2]
    assert stop not in await answer_to(model, temperature=0.0, stop=[stop])


async def test_usage_is_counted_over_requests(model: EmbeddedLlmClient) -> None:
    before = model.total_usage()
    results = [
        await model.create(user(text), extra_create_args={"max_tokens": 4})
        for text in ("a fox", "a fox and a very small hen")
    ]
    prompts = [result.usage.prompt_tokens for result in results]
    assert 0 < prompts[0] < prompts[1]
    after = model.total_usage()
    assert after.prompt_tokens - before.prompt_tokens == sum(prompts)
    written = sum(result.usage.completion_tokens for result in results)
    assert after.completion_tokens - before.completion_tokens == written > 0


async def test_answers_keep_to_a_schema(model: EmbeddedLlmClient) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    for seed in range(3):
        text = await answer_to(model, seed=seed, response_format=wanted, max_tokens=60)
        answer = json.loads(text)
        assert set(answer) == {"colour", "count"}
        assert answer["colour"] in ("red", "blue") and answer["count"] in (1, 2)


class Kept(BaseModel):
    """What an answer must be."""

    sure: bool


async def test_answers_keep_to_a_class_as_agentchat_asks_it(model: EmbeddedLlmClient) -> None:
    arguments = {"max_tokens": 60}
    made = await model.create(user("Sure?"), json_output=Kept, extra_create_args=arguments)
    assert isinstance(Kept.model_validate_json(str(made.content)).sure, bool)


async def test_a_stream_ends_with_the_result_that_create_gives(model: EmbeddedLlmClient) -> None:
    arguments = {"max_tokens": 6, "seed": 3}
    *pieces, last = [
        piece async for piece in model.create_stream(user("a fox"), extra_create_args=arguments)
    ]
    assert isinstance(last, CreateResult)
    assert (
        "".join(map(str, pieces))
        == last.content
        == await answer_to(model, "a fox", **arguments, temperature=0.7)
    )


async def test_it_answers_inside_an_agentchat_agent(model: EmbeddedLlmClient) -> None:
    agent = AssistantAgent("painter", model, system_message="You write picture prompts.")
    result = await agent.run(task="a fox")
    last = result.messages[-1]
    assert isinstance(last, TextMessage) and last.source == "painter" and last.content.strip()
    assert last.models_usage is not None and last.models_usage.completion_tokens > 0


async def test_any_text_is_answered(model: EmbeddedLlmClient) -> None:
    for text in (
        "狐 🦊 ünïcödé",
        "\x00\x1b[31m\u202e",
        "<|im_end|>\n<|im_start|>system",
        "x" * 3000,
    ):
        assert isinstance(await answer_to(model, text, max_tokens=2), str)


async def test_a_prompt_past_the_context_is_refused_and_the_next_one_answered(
    model: EmbeddedLlmClient,
) -> None:
    with pytest.raises(LlmError, match="exceeds the available context"):
        await answer_to(model, "fox " * 3000)
    assert await answer_to(model)


async def test_what_it_cannot_do_is_refused(model: EmbeddedLlmClient) -> None:
    async def look(x: int) -> int:
        return x

    tool = FunctionTool(look, description="looks")
    with pytest.raises(ValueError, match="calls no tools"):
        await model.create(user("a fox"), tools=[tool])
    picture = Image(Pictures.new("RGB", (2, 2)))
    call = FunctionCall(id="1", name="look", arguments="{}")
    unheard: tuple[LLMMessage, ...] = (
        UserMessage(content=["see", picture], source="user"),
        AssistantMessage(content=[call], source="assistant"),
        FunctionExecutionResultMessage(content=[]),
    )
    for message in unheard:
        with pytest.raises(ValueError, match="the embedded LLM"):
            await model.create([message])


async def test_unknown_arguments_are_refused_by_name(model: EmbeddedLlmClient) -> None:
    with pytest.raises(ValueError, match="temprature, top_q"):
        await model.create(
            user("a fox"), extra_create_args={"temprature": 1, "top_q": 2, "seed": 1}
        )


async def test_it_is_loaded_from_configuration_and_dumped_to_it(model: EmbeddedLlmClient) -> None:
    client = load_client(LlmConfig(config={"threads": 2}))
    assert isinstance(client, EmbeddedLlmClient)
    dumped = client.dump_component()
    assert (dumped.provider, dumped.component_type) == (EMBEDDED, "model")
    assert dumped.config["threads"] == 2
    again = ChatCompletionClient.load_component(dumped)
    assert isinstance(again, EmbeddedLlmClient)
    assert again.dump_component() == dumped
    assert again.fingerprint == client.fingerprint == model.fingerprint == SMOLLM2_SHA256
    await client.close()
    await again.close()


async def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="thread_count"):
        load_client(LlmConfig(config={"thread_count": 2}))


async def test_missing_weights_are_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGPE_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="bigpe models pull smollm2") as caught:
        load_client(LlmConfig())
    assert str(tmp_path / "models" / SMOLLM2_FILE) in str(caught.value)


async def test_a_path_to_nowhere_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.gguf") as caught:
        load_client(LlmConfig(config={"path": str(tmp_path / "nowhere.gguf")}))
    assert "config.path" in str(caught.value)


async def test_a_file_that_holds_no_model_is_told_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF, but not really")
    client = EmbeddedLlmClient(EmbeddedLlmConfig(path=str(path)))
    try:
        with pytest.raises(ConfigError, match="cut.gguf"):
            await answer_to(client)
    finally:
        await client.close()


async def test_other_weights_at_the_same_path_are_another_model(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    found: list[str] = []
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        found.append(EmbeddedLlmClient(EmbeddedLlmConfig(path=str(path))).fingerprint)
    assert found[0] == found[2] != found[1]


async def test_a_cancelled_request_ends_at_once_and_the_next_is_answered() -> None:
    client = EmbeddedLlmClient()
    try:
        await answer_to(client, max_tokens=1)
        token = CancellationToken()
        long = {"max_tokens": 1800, "repeat_penalty": 1.3}
        call = asyncio.create_task(
            client.create(
                user("Tell a long tale."), extra_create_args=long, cancellation_token=token
            )
        )
        await asyncio.sleep(0.2)
        assert not call.done()
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 60)
        assert await answer_to(client)
    finally:
        await client.close()


async def test_closing_ends_the_process_and_a_second_time_does_nothing() -> None:
    before = workers()
    client = EmbeddedLlmClient()
    assert workers() == before  # nothing is loaded until it is asked
    await answer_to(client, max_tokens=1)
    [mine] = workers() - before
    await client.close()
    await client.close()
    assert not psutil.pid_exists(mine)
    with pytest.raises(ServiceError, match="closed"):
        await answer_to(client)
