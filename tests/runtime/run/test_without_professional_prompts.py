"""`[data] professional = false`: no role sees a professional prompt, nor is one painted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bigpe.agents.messages.core import LlmTurn, RenderRequested
from bigpe.testing.runs import CONFIG, messages_of, run_fake


@pytest.mark.parametrize("professional", [True, False])
async def test_professional_prompts_are_shown_and_painted_only_where_wanted(
    tmp_path: Path, professional: bool
) -> None:
    config: dict[str, Any] = CONFIG | {"data": {"professional": professional}}
    await run_fake(tmp_path, config)
    turns = [m for m in messages_of(tmp_path, LlmTurn) if m.role == "modifier" and m.chat]
    requests = [turn.chat[-2]["content"] for turn in turns]
    painted = {m.purpose for m in messages_of(tmp_path, RenderRequested)}
    assert requests
    assert any(str(text).startswith("professional:") for text in requests) == professional
    assert ("professional" in painted) == professional
