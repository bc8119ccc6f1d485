"""Which client a configuration makes, and that its key goes nowhere but to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, fails
from support.llm_services import PROVIDER, a_request, config_for, service_on

from bigpe.services.core.errors import ConfigError, LlmError
from bigpe.services.llm.config import client_fingerprint, load_client
from bigpe.services.llm.service import LlmConfig

KEY_NAME = "BIGPE_TEST_KEY"
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv(KEY_NAME, raising=False)


def bytes_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


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
    result = {
        "provider": "bigpe.testing.fakes.FakeLlm",
        "allow_providers": ("bigpe.testing.fakes.",),
    }
    with pytest.raises(ConfigError, match="not trusted"):
        load_client(LlmConfig(provider="bigpe.testing.fakes.FakeLlm"))
    # The fake is no component, which is found out only once its module is imported.
    with pytest.raises(ConfigError, match="bigpe.testing.fakes.FakeLlm") as caught:
        load_client(LlmConfig(**result))
    assert "not trusted" not in str(caught.value)


@pytest.mark.parametrize(
    "provider",
    [
        "autogen_ext.models.nowhere.Client",
        "autogen_ext.models.openai.NoSuchClient",
        "autogen_ext.models.",
        "bigpe.services.store.database.Store",
        "bigpe.services.core.values.digest",
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
        ({"model": "gpt-4o-mini"}, "api_key"),
        ({"model": "gpt-4o-mini", "temperature": "hot"}, "temperature"),
    ],
)
def test_a_configuration_that_the_client_refuses_is_told(config: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_client(LlmConfig(provider=PROVIDER, config=config))
