"""`[llm.NAME]`: short names, own settings, and keys that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest
from autogen_ext.models.openai.config import (
    AzureOpenAIClientConfigurationConfigModel,
    OpenAIClientConfigurationConfigModel,
)
from support.http_llm import FakeServer
from support.llm_services import PROVIDER, a_request, service_on

from bigpe.runtime.cli.project.init import llm_section, write_config
from bigpe.runtime.project.config import check_config, load_config
from bigpe.services.core.errors import ConfigError
from bigpe.services.llm.config import BIGPES_OWN, CONFIG_KEYS, client_fingerprint, load_client
from bigpe.services.llm.providers import PROVIDERS, provider_at, rules_for
from bigpe.services.llm.service import LlmConfig

AZURE = "autogen_ext.models.openai.AzureOpenAIChatCompletionClient"


def checked(**llm: Any) -> LlmConfig:
    return check_config({"llm": {"default": llm}}, where="bigpe.toml").llm["default"]


@pytest.mark.parametrize(
    ("llm", "words"),
    [
        ({"provider": "opnai", "model": "m"}, "did you mean 'openai'"),
        ({"provider": "openai", "model": "m", "base_ur1": "http://x"}, "did you mean 'base_url'"),
        ({"provider": "openai"}, "model is missing"),
        ({"provider": "azure", "model": "m"}, "base_url is missing"),
        ({"provider": "openai-compatible", "model": "m"}, "base_url is missing"),
        ({"provider": "vllm", "model": "m", "base_url": "127.0.0.1:8000"}, "write https://"),
        ({"provider": "vllm", "model": "m", "base_url": "http://u:p@h/v1"}, "password"),
        ({"provider": "openai", "model": "m", "config": {"model": "m"}}, "dotted provider"),
        ({"provider": "openai", "model": "m", "api_version": "2024"}, "no effect"),
        ({"provider": "openai", "model": "m", "headers": {"Authorization": "k"}}, "api_key_env"),
        ({"provider": "embedded", "temperature": 0.5}, "no effect"),
        ({"provider": PROVIDER, "model": "m", "config": {"model": "m"}}, "no effect"),
        ({"provider": PROVIDER, "config": {"model": "m", "base_ur1": "x"}}, "mean 'base_url'"),
        ({"provider": PROVIDER, "config": {"model": "m", "base_url": "h:1"}}, "not an address"),
        ({"provider": PROVIDER, "config": {"model": "m", "seed": 3}}, "no effect"),
        ({"provider": AZURE, "config": {"model": "m", "azure_endpont": "x"}}, "azure_endpoint"),
    ],
)
def test_a_key_that_cannot_be_is_refused(llm: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checked(**llm)


def test_every_key_of_autogens_clients_is_taken_or_refused_with_a_reason() -> None:
    ours = {*CONFIG_KEYS, *BIGPES_OWN, "azure_ad_token_provider"}
    for model in (OpenAIClientConfigurationConfigModel, AzureOpenAIClientConfigurationConfigModel):
        assert {*get_type_hints(model)} & {*model.model_fields} <= ours


def test_the_embedded_model_has_a_short_name() -> None:
    assert checked(provider="embedded") == LlmConfig()


@pytest.mark.parametrize("provider", [name for name, p in PROVIDERS.items() if p.base_url])
def test_a_short_name_goes_to_its_provider(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = PROVIDERS[provider].key_env
    if key:
        monkeypatch.delenv(key, raising=False)
        with pytest.raises(ConfigError, match=key):
            load_client(checked(provider=provider, model="m"))
        monkeypatch.setenv(key, "sk-1")
    config = checked(provider=provider, model="m")
    assert config.address == PROVIDERS[provider].base_url
    assert provider_at(config.address) == provider
    assert load_client(config).model_info["structured_output"]


async def test_the_usual_key_goes_to_its_provider_only(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    config = checked(provider="openai", model="m", base_url=server.url)
    async with service_on(config, tmp_path) as (llm, _):
        await llm.ask(a_request())
    assert server.keys == ["Bearer none"]


async def test_headers_of_the_users_own_are_sent_and_count(
    server: FakeServer, tmp_path: Path
) -> None:
    plain = checked(provider="openai-compatible", model="m", base_url=server.url)
    config = plain.model_copy(update={"headers": {"X-Title": "mine", "User-Agent": "me"}})
    async with service_on(config, tmp_path) as (llm, _):
        await llm.ask(a_request())
        assert llm.fingerprint != client_fingerprint(load_client(plain), plain)
    sent = {name.lower(): value for name, value in server.headers[-1].items()}
    assert (sent["x-title"], sent["user-agent"]) == ("mine", "me")


async def test_the_users_limit_is_not_paid_twice(server: FakeServer, tmp_path: Path) -> None:
    config = checked(provider="openai-compatible", model="m", base_url=server.url, max_tokens=900)
    async with service_on(config, tmp_path) as (llm, effects):
        assert llm.own_limit == 900
        for limit in (64, 128, 256):
            await llm.ask(a_request(max_tokens=limit))
        assert effects.paid["llm"] == 1
    assert server.requests[0]["max_tokens"] == 900


@pytest.mark.parametrize(
    ("model", "vision", "thinks"),
    [
        ("gpt-5-mini", True, True),
        ("gpt-5-chat-latest", True, False),
        ("gpt-4o-mini", True, False),
        ("o3-mini", False, True),
        ("qwen3:8b", False, True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", True, False),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", False, False),
        ("deepseek-r1:14b", False, True),
        ("gemma3:12b", True, False),
        ("llama3.1:8b", False, False),
        ("anthropic/claude-sonnet-4.5", True, False),
    ],
)
def test_abilities_come_from_the_name(model: str, vision: bool, thinks: bool) -> None:
    rules = rules_for("openrouter", model)
    assert (rules.vision, rules.thinks) == (vision, thinks)


@pytest.mark.parametrize(
    ("llm", "provider", "model"),
    [
        ("openai/gpt-5-mini", "openai", "gpt-5-mini"),
        ("ollama/qwen3:8b", "ollama", "qwen3:8b"),
        ("openrouter/vendor/model", "openrouter", "vendor/model"),
    ],
)
@pytest.mark.parametrize("template", ["embedded", "sdxl-turbo"])
def test_init_writes_the_named_model(
    llm: str, provider: str, model: str, template: str, tmp_path: Path
) -> None:
    path = write_config(tmp_path, template, llm_section(llm, None))
    config = load_config(path)
    assert (config.llm["default"].provider, config.llm["default"].model) == (provider, model)
    assert config.llm["default"].api_key_env == PROVIDERS[provider].key_env
    plain = load_config(write_config(tmp_path / "plain", template))
    # A model that can reason gets seed instructions of its own.
    assert (
        config.model_copy(update={"llm": plain.llm, "data": plain.data, "run": plain.run}) == plain
    )


@pytest.mark.parametrize("llm", ["gpt-5", "openai/", "opnai/gpt-5", "azure/gpt-5", "embedded/x"])
def test_init_refuses_what_names_no_model(llm: str) -> None:
    with pytest.raises(ConfigError):
        llm_section(llm, None)
