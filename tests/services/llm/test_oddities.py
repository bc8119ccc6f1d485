"""Every row of the oddities: what a server does, and what becomes of a request.

docs/reference/providers.md is made from what is observed here:
`BIGPE_WRITE_REFERENCE=1 pytest tests/services/llm/test_oddities.py` writes it anew.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image as Pictures
from support.llm_answer_oddities import ANSWERS, FAILURES
from support.llm_oddities import Oddity, OddServer
from support.llm_parameter_oddities import PARAMETERS, SCHEMAS
from support.llm_services import a_request
from support.paths import ROOT

from bigpe.services.core.errors import BigpeError, ConfigError, QuotaError, TransientLlmError
from bigpe.services.core.values import LlmAnswer
from bigpe.services.llm.config import load_client
from bigpe.services.llm.learned import Learned, LearnedServers
from bigpe.services.llm.service import LlmConfig, LlmRequest, LlmService, Turn
from bigpe.services.store.call_cache import InMemoryCallCache

GROUPS = {
    "Parameters": PARAMETERS,
    "Answers by a schema": SCHEMAS,
    "Answers": ANSWERS,
    "Failures and your own settings": FAILURES,
}
ROWS = {row.name: row for rows in GROUPS.values() for row in rows}
PAGE = ROOT / "docs" / "reference" / "providers.md"
BEGIN = "\n## Parameters\n"
"""Where the made part of the page begins; it goes on to the end."""


@dataclass(frozen=True)
class Seen:
    """What became of two requests: with one seed, then with another."""

    result: LlmAnswer | BigpeError
    calls: int
    """HTTP requests of the first."""
    later_calls: int
    """HTTP requests of the second."""
    sent: Mapping[str, Any]
    """The last HTTP request."""
    learned: list[str]


SEEN: dict[str, Seen] = {}


@pytest.fixture(scope="module")
def odd_server() -> Iterator[OddServer]:
    made = OddServer(ROWS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def picture(_: str) -> bytes:
    file = io.BytesIO()
    Pictures.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


def request(row: Oddity, seed: int) -> LlmRequest:
    ask = dict(row.ask)
    if "schema" in ask:
        ask["answer_schema"] = ask.pop("schema")
    if ask.pop("picture", False):
        ask["turns"] = (Turn(role="user", text="which?", images=("0" * 64,)),)
    return a_request(**({"seed": seed} | ask | {"seed": ask.get("seed", 5) + seed - 5}))


async def observe(row: Oddity, server: OddServer) -> Seen:
    if row.name in SEEN:
        return SEEN[row.name]
    url = f"{server.address}/{row.name}/v1"
    named = {"provider": "openai-compatible", "model": "m", "base_url": url} | row.config
    config, learned = LlmConfig(**named), LearnedServers()
    llm = LlmService(
        load_client(config), InMemoryCallCache(), config=config, picture=picture, learned=learned
    )
    counts: list[int] = []
    results: list[LlmAnswer | BigpeError] = []
    for seed in (5, 6):
        before = len(server.seen[row.name])
        try:
            results.append(await llm.ask(request(row, seed)))
        except BigpeError as error:
            results.append(error)
        counts.append(len(server.seen[row.name]) - before)
        if seed == 5:
            sent = server.seen[row.name][-1]
    found = learned.of(url, str(named["model"])).differences(Learned())
    await llm.close()
    assert type(results[0]) is type(results[1]), results
    SEEN[row.name] = Seen(results[0], counts[0], counts[1], sent, found)
    return SEEN[row.name]


@pytest.mark.parametrize("name", list(ROWS))
async def test_an_oddity_becomes_what_it_should(name: str, odd_server: OddServer) -> None:
    row = ROWS[name]
    seen, wants = await observe(row, odd_server), row.wants
    if error := wants.get("error"):
        assert type(seen.result) is error, seen.result
        assert re.search(wants.get("says", ""), str(seen.result)), seen.result
        if error is not ConfigError:
            assert odd_server.address in str(seen.result)
        if "wait" in wants:
            assert getattr(seen.result, "retry_after_s", None) == wants["wait"]
    else:
        assert isinstance(seen.result, LlmAnswer), seen.result
        assert seen.result.text == wants["text"]
        assert seen.result.finish_reason == wants.get("finish", "stop")
        assert seen.result.reasoning == wants.get("reasoning", "")
        if "refusal" in wants:
            assert seen.result.refusal == wants["refusal"]
        assert seen.later_calls == 1, "what was learned is kept"
    assert seen.calls == wants.get("calls", 1)
    for key, value in wants.get("sent", {}).items():
        assert seen.sent.get(key) == value, key
    if "usage" in wants:
        assert isinstance(seen.result, LlmAnswer)
        used = seen.result.usage
        counts = (used.prompt_tokens, used.completion_tokens, used.reasoning_tokens)
        assert (*counts, used.cached_tokens) == wants["usage"]


def did(seen: Seen) -> str:
    """What bigpe did, for the page."""
    if isinstance(seen.result, BigpeError):
        wait = getattr(seen.result, "retry_after_s", None)
        kinds = (
            (TransientLlmError, "waits and tries again" + (f", after {wait:g} s" if wait else "")),
            (QuotaError, "pauses the run"),
            (ConfigError, "ends with exit code 2, and names the setting"),
        )
        return next((text for kind, text in kinds if isinstance(seen.result, kind)), "fails") + (
            f": `{type(seen.result).__name__}`"
        )
    parts = list(seen.learned)
    if seen.result.finish_reason != "stop":
        parts.append(f"the answer ended by `{seen.result.finish_reason}`")
    if seen.result.reasoning:
        parts.append("thoughts are kept apart")
    if seen.result.refusal:
        parts.append("it is a refusal")
    return "; ".join(parts) or "nothing differs: the first request is taken"


async def test_the_page_shows_what_was_observed(odd_server: OddServer) -> None:
    lines: list[str] = []
    for title, rows in GROUPS.items():
        lines += ["", f"## {title}", "", "| the server | bigpe | refused calls |", "|---|---|---|"]
        for row in rows:
            seen = await observe(row, odd_server)
            refused = seen.calls - 1 if isinstance(seen.result, LlmAnswer) else 0
            came = row.came.replace("|", "\\|")
            lines.append(f"| {came} | {did(seen)} | {refused or ''} |")
    text = PAGE.read_text("utf-8")
    made = text.partition(BEGIN)[0] + "\n".join([*lines, ""])
    if os.environ.get("BIGPE_WRITE_REFERENCE"):
        PAGE.write_text(made, "utf-8")
    assert PAGE.read_text("utf-8") == made, "write the page anew: see this module"
