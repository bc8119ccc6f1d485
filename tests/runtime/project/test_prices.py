"""The prices of a project's models, and the budget in USD that counts with them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from bigpe.agents.messages.usage import FREE, LlmPrice, Prices
from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.runtime.project.prices import price_table, run_prices
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import LlmUsage

OPENAI = "autogen_ext.models.openai.OpenAIChatCompletionClient"
AZURE = "autogen_ext.models.openai.AzureOpenAIChatCompletionClient"


def config(**sections: Any) -> BigpeConfig:
    return check_config(sections, where="here")


def llm(model: str, provider: str = OPENAI, **more: str) -> dict[str, Any]:
    return {"provider": provider, "config": {"model": model, **more}}


def short(provider: str, model: str, **more: str) -> dict[str, Any]:
    return {"provider": provider, "model": model, **more}


@pytest.mark.parametrize("provider", ["ollama", "vllm", "llamacpp", "lmstudio"])
def test_a_server_of_your_own_on_this_machine_is_free(provider: str) -> None:
    here = config(llm={"default": short(provider, "qwen3:8b")})
    assert price_table(here).llm("generator") == FREE
    there = short(provider, "qwen3:8b", base_url="https://gpu.example.org/v1")
    assert price_table(config(llm={"default": there})).llm("generator") is None


def test_the_embedded_models_are_free_and_leave_the_plan_as_it_was() -> None:
    table = price_table(config())
    assert run_prices(config()) == Prices() and table.missing == ()
    assert {row.source for row in table.rows} == {"runs on this machine"}


@pytest.mark.parametrize(
    ("section", "model"),
    [
        (llm("gpt-4o-mini"), "openai/gpt-4o-mini"),
        (llm("gpt-4o-mini", AZURE), "azure/gpt-4o-mini"),
        (short("openai", "gpt-5-mini"), "openai/gpt-5-mini"),
        (short("anthropic", "claude-sonnet-4-5"), "anthropic/claude-sonnet-4-5"),
        (short("gemini", "gemini-2.5-flash"), "google/gemini-2.5-flash"),
        (short("mistral", "mistral-small-latest"), "mistral/mistral-small-latest"),
        (short("deepseek", "deepseek-chat"), "deepseek/deepseek-chat"),
        (short("openrouter", "openai/gpt-4o-mini"), "openrouter/openai/gpt-4o-mini"),
        (llm("gpt-4o-mini", base_url="https://api.openai.com/v1"), "openai/gpt-4o-mini"),
        (
            llm("gemini-2.5-flash", base_url="https://generativelanguage.googleapis.com/v1beta/"),
            "google/gemini-2.5-flash",
        ),
    ],
)
def test_a_public_model_is_priced_by_the_list(section: dict[str, Any], model: str) -> None:
    table = price_table(config(llm={"default": section}))
    row = table.llm_row("generator")
    assert row.source.startswith("genai-prices ") and row.source.endswith(model)
    price = table.llm("generator")
    assert price is not None and price.cached is not None
    assert 0 < price.cached < price.prompt < price.completion
    assert table.plan_prices.llm == {"default": price}


@pytest.mark.parametrize(
    "section",
    [
        llm("gpt-4o-mini", base_url="http://127.0.0.1:8000/v1"),
        llm("gpt-4o-mini", base_url="https://models.example.org/v1"),
        llm("a-model-of-ours"),
        llm("gpt-4o-mini", "my_package.Client"),
        short("openai-compatible", "gpt-4o-mini", base_url="http://127.0.0.1:8000/v1"),
        short("openai", "gpt-4o-mini", base_url="https://proxy.example.org/v1"),
    ],
)
def test_a_name_alone_is_no_price_and_a_budget_in_usd_says_so(section: dict[str, Any]) -> None:
    bare = config(llm={"default": section})
    assert [row.name for row in price_table(bare).missing] == ["llm.default"]
    assert run_prices(bare) == Prices()
    with pytest.raises(ConfigError, match=r"prices\.llm\.default"):
        run_prices(config(llm={"default": section}, budget={"usd": 5}))
    free = {"llm": {"default": {"prompt": 0, "completion": 0}}}
    priced = config(llm={"default": section}, budget={"usd": 5}, prices=free)
    assert run_prices(priced) == Prices()


def test_your_own_price_stands_above_the_list() -> None:
    own = {"default": {"prompt": 7, "completion": 9}}
    table = price_table(config(llm={"default": llm("gpt-4o-mini")}, prices={"llm": own}))
    assert table.llm("modifier") == LlmPrice(prompt=7, completion=9)
    assert table.llm_row("modifier").source == "[prices]"


def test_a_price_belongs_to_the_model_of_its_role() -> None:
    models = {"default": llm("gpt-4o"), "generator": {}, "gradient": llm("gpt-4o-mini")}
    table = price_table(config(llm=models))
    assert table.llm("generator") == FREE
    prices = table.plan_prices
    million = LlmUsage(calls=1, prompt_tokens=10**6)
    assert prices.of_llm("generator", million) == 0
    assert 0 < prices.of_llm("gradient", million) < prices.of_llm("modifier", million)


def test_thoughts_are_billed_once_and_cached_tokens_at_their_own_price() -> None:
    price = LlmPrice(prompt=10, completion=100, cached=1)
    used = LlmUsage(
        calls=1,
        prompt_tokens=3 * 10**6,
        completion_tokens=10**6,
        reasoning_tokens=9 * 10**5,
        cached_tokens=2 * 10**6,
    )
    assert price.usd(used) == pytest.approx(10 + 2 * 1 + 100)
    assert LlmPrice(prompt=10, completion=100).usd(used) == pytest.approx(130)


def test_a_picture_service_without_a_price_is_named() -> None:
    render = {"backend": "openai-images", "model": "gpt-image-1"}
    assert [row.name for row in price_table(config(render=render)).missing] == ["render"]
    priced = price_table(config(render=render, prices={"render": 0.04}))
    assert priced.missing == () and priced.plan_prices.render == 0.04


@pytest.mark.parametrize(
    "prices",
    [
        {"llm": {"genrator": {"prompt": 1, "completion": 1}}},
        {"llm": {"default": {"prompt": 1}}},
        {"llm": {"default": {"prompt": -1, "completion": 1}}},
        {"image": 1},
    ],
)
def test_a_price_without_effect_is_refused(prices: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config(prices=prices)


def test_the_list_is_loaded_only_for_a_model_that_may_be_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # an import fails
    price_table(config())
    price_table(config(llm={"default": llm("x", base_url="http://localhost:1/v1")}))
    with pytest.raises(ImportError):
        price_table(config(llm={"default": llm("gpt-4o")}))
