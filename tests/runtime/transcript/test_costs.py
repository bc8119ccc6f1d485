"""`bigpe costs`: what was paid, by which prices, and which model has none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bigpe.runtime.cli import cli
from bigpe.runtime.project.config import check_config
from bigpe.services.core.values import Json
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.caller_context import caller_context
from bigpe.services.store.database import Store

OPENAI = "autogen_ext.models.openai.OpenAIChatCompletionClient"
USAGE = {
    "calls": 1,
    "prompt_tokens": 1_000_000,
    "completion_tokens": 1_000_000,
    "reasoning_tokens": 900_000,
    "cached_tokens": 400_000,
}


def project(folder: Path, **sections: Any) -> Path:
    """A project with a run that paid for one call of each kind."""
    config = check_config(sections, where="here")

    async def pay(kind: str) -> Json:
        return {"usage": USAGE} if kind == "llm" else {}

    async def work() -> None:
        async with Store(folder / "bigpe.db") as store:
            record = {"name": "main", "config": config.model_dump_json()}
            await store.write([("add_run", record | {"created": 0.0, "version": "1"})])
            cache = CallCache(store)
            for actor, kind in (("generator", "llm"), ("renderer", "render"), ("scorer", "score")):
                with caller_context("main", actor, 1):
                    await cache.run(kind, kind, {}, lambda kind=kind: pay(kind))

    asyncio.run(work())
    return folder


def costs(folder: Path) -> Any:
    done = CliRunner().invoke(cli, ["costs", "-p", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_thoughts_and_cached_tokens_are_counted_and_billed_once(tmp_path: Path) -> None:
    llm = {"provider": OPENAI, "config": {"model": "gpt-4o"}}
    own = {"llm": {"default": {"prompt": 10, "completion": 100, "cached": 1}}}
    paid = costs(project(tmp_path, llm={"default": llm}, prices=own))["total"]["paid"]
    assert (paid["tokens"], paid["reasoning_tokens"], paid["cached_tokens"]) == (
        2_000_000,
        900_000,
        400_000,
    )
    assert paid["usd"] == pytest.approx(0.6 * 10 + 0.4 * 1 + 100) and paid["unpriced"] == 0


def test_a_listed_model_has_a_price_without_a_setting(tmp_path: Path) -> None:
    llm = {"provider": OPENAI, "config": {"model": "gpt-4o"}}
    costs_of_run = costs(project(tmp_path, llm={"default": llm}))
    assert costs_of_run["total"]["paid"]["usd"] > 10
    (row,) = (row for row in costs_of_run["prices"] if row["section"] == "llm.default")
    assert row["source"].endswith("openai/gpt-4o") and row["usd"]["completion"] == 10


def test_a_model_without_a_price_never_counts_as_free(tmp_path: Path) -> None:
    llm = {"provider": OPENAI, "config": {"model": "ours", "base_url": "http://127.0.0.1:1/v1"}}
    folder = project(
        tmp_path, llm={"default": llm}, render={"backend": "openai-images"}, prices={"score": 2}
    )
    paid = costs(folder)["total"]["paid"]
    assert (paid["usd"], paid["unpriced"]) == (2, 2)
    output = CliRunner().invoke(cli, ["costs", "-p", str(folder)]).stdout
    assert "unknown" in output and "[prices.llm.default]" in output and "[prices] render" in output
