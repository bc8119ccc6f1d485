"""Calls that failed or brought nothing usable count as the model itself counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import CreateResult, LLMMessage, RequestUsage

from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.prices import price_table
from bigpe.runtime.transcript.costs import read_ledger
from bigpe.services.core.errors import TransientLlmError
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm, rng_of
from bigpe.testing.runs import CONFIG, open_fake


class Moody(FakeLlm):
    """Now and then says nothing, or breaks off; keeps the bill."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.tokens = self.failed = 0

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        tool_choice: Any = "auto",
        json_output: Any = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        self.calls += 1
        mood = rng_of("mood", self.calls).random()
        if mood < 0.15:
            self.failed += 1
            raise TransientLlmError("the line is dead")
        if mood < 0.3:  # answered, and not usable
            self.tokens += 11
            empty = RequestUsage(prompt_tokens=10, completion_tokens=1)
            return CreateResult(finish_reason="stop", content=" ", usage=empty, cached=False)
        answer = await super().create(messages, extra_create_args=extra_create_args)
        self.tokens += answer.usage.prompt_tokens + answer.usage.completion_tokens
        return answer


async def test_what_is_asked_and_what_is_paid_are_the_models_own_bill(tmp_path: Path) -> None:
    llm = Moody()
    async with open_fake(tmp_path, {"run": {**CONFIG["run"], "rounds": 6}}, llm=llm) as session:
        async for _ in session.run():
            pass
        used = session.coordinator.campaign.used
    assert llm.failed > 5
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        paid = (await read_ledger(store, "main", price_table(BigpeConfig()), "role")).total.paid
    assert (paid.llm_calls, paid.tokens, paid.failed) == (llm.calls, llm.tokens, llm.failed)
    assert paid.unsettled == 0
    # Nothing was in the memo before, and no request repeats but those that failed.
    assert (used.llm_calls, used.tokens) == (llm.calls, llm.tokens)
