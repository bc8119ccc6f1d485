"""`[data] professional = false`: no role sees a professional prompt, nor is one painted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.runs import CONFIG, run_fake

from bigpe.agents.messages import LlmTurn, RenderRequested, parse_message
from bigpe.runtime.search import Wanted, every
from bigpe.services.store import Store


@pytest.mark.parametrize("professional", [True, False])
async def test_professional_prompts_are_shown_and_painted_only_where_wanted(
    tmp_path: Path, professional: bool
) -> None:
    config: dict[str, Any] = CONFIG | {"data": {"professional": professional}}
    await run_fake(tmp_path, config)
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        said = [parse_message(row.body) async for row in every(store, "main", Wanted())]
    turns = [m for m in said if isinstance(m, LlmTurn) and m.role == "modifier" and m.chat]
    asked = [turn.chat[-2]["content"] for turn in turns]
    painted = {m.purpose for m in said if isinstance(m, RenderRequested)}
    assert asked
    assert any(str(text).startswith("professional:") for text in asked) == professional
    assert ("professional" in painted) == professional
