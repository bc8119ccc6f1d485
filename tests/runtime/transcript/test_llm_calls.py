"""The stored calls of an LLM exchange, found by their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bigpe.agents.messages.core import LlmTurn
from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.agents.reasoning.rules import EMBEDDED_REWRITES
from bigpe.runtime.transcript.llm_calls import paid_calls
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.services.llm.service import LlmService
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import CONFIG, messages_of, run_fake

ORNATE = Instruction(
    text="Add ornament.",
    exemplars=(Exemplar(naive="a pan", rewrite="a pan, ornate golden crisp vivid"),),
)


class Mute(FakeLlm):
    """Never gives a usable rewrite, so that every attempt is made."""

    def _rewrite(self, *_: Any) -> str:
        return "something else entirely"


async def seeds_of(store: Store, rewritten: Rewrite, round: int) -> list[int]:
    """The seeds of the stored calls that the exchange of this rewrite leads to."""
    turn = LlmTurn(
        mid=f"m{round}",
        run="r",
        parent="",
        round=round,
        role="generator",
        chat=(),
        effect_keys=rewritten.effect_keys,
    )
    return [json.loads(call.request)["seed"] for call in await paid_calls(store, turn)]


async def test_rounds_with_equal_words_have_their_own_calls(tmp_path: Path) -> None:
    async with Store(tmp_path / "bigpe.db") as store:
        memo = CallCache(store)
        llm = LlmService(FakeLlm(), memo)
        rounds = [await rewrite(llm, ORNATE, "a red fox", seed) for seed in (7, 8, 7)]
        await memo.close()
        assert rounds[0].turns[:-1] == rounds[1].turns[:-1], "the words of the requests are equal"
        found = [await seeds_of(store, done, round) for round, done in enumerate(rounds)]
    assert found == [[7], [8], [7]]


async def test_an_exchange_has_the_calls_of_all_attempts(tmp_path: Path) -> None:
    async with Store(tmp_path / "bigpe.db") as store:
        memo = CallCache(store)
        done = await rewrite(LlmService(Mute(), memo), ORNATE, "a red fox", 7)
        await memo.close()
        found = await seeds_of(store, done, 1)
    assert found[0] == 7 and len(set(found)) == EMBEDDED_REWRITES.attempts


async def test_every_exchange_of_a_run_leads_to_its_calls(tmp_path: Path) -> None:
    await run_fake(tmp_path, {"run": {**CONFIG["run"], "rounds": 3}})
    turns = [turn for turn in messages_of(tmp_path, LlmTurn) if turn.chat]
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        for turn in turns:
            calls = await paid_calls(store, turn)
            assert tuple(call.key for call in calls) == turn.effect_keys
            last = calls[-1]
            words = [part["content"] for part in turn.chat]
            request = [part["text"] for part in json.loads(last.request)["turns"]]
            assert [*request, json.loads(last.answer)["text"]] == words
    assert {turn.role for turn in turns} >= {"generator", "gradient", "modifier"}
