"""What was judged unusable is given again to the run that judged it, and to no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.llm_services import a_request

from bigpe.services.core.values import LlmAnswer
from bigpe.services.llm.service import LlmService
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm


class Weights(FakeLlm):
    """A model with weights of its own."""

    fingerprint = "w"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "p.db") as opened:
        yield opened


async def answer(cache: CallCache, memory: AnswerMemory, llm: FakeLlm | None = None) -> LlmAnswer:
    return await LlmService(llm or FakeLlm(), cache, memory=memory).ask(a_request())


async def discard(cache: CallCache, memory: AnswerMemory, llm: FakeLlm | None = None) -> str:
    service = LlmService(llm or FakeLlm(), cache, memory=memory)
    key = (await service.ask(a_request())).effect_key
    await service.discard(key)
    return key


async def test_another_run_asks_anew_and_the_same_run_does_not(store: Store) -> None:
    cache = CallCache(store)
    first, second = [await AnswerMemory.of_run(store, run) for run in ("one", "two")]
    key = await discard(cache, first)
    assert (await answer(cache, await AnswerMemory.of_run(store, "one"))).effect_key == key
    assert cache.paid["llm"] == 1, "a resume pays nothing twice"
    other = await answer(cache, second)
    assert (other.effect_key != key, cache.paid["llm"]) == (True, 2)
    assert (await answer(cache, await AnswerMemory.of_run(store, "three"))) == other
    assert cache.paid["llm"] == 2, "what nobody discarded is remembered"
    await discard(cache, second)
    assert (await answer(cache, await AnswerMemory.of_run(store, "three"))) != other
    assert (await answer(cache, second)) == other
    for stored in (key, other.effect_key):
        assert await store.row("get_effect", key=stored) is not None, "transcripts refer to it"


async def test_a_fresh_run_forgets_what_was_there_and_keeps_what_it_paid(store: Store) -> None:
    cache = CallCache(store)
    old = await answer(cache, await AnswerMemory.of_run(store, "old"))
    new = await answer(cache, await AnswerMemory.of_run(store, "new", fresh=True))
    assert (new.effect_key != old.effect_key, cache.paid["llm"]) == (True, 2)
    assert (await answer(cache, await AnswerMemory.of_run(store, "new"))) == new, "a resume"
    assert (await answer(cache, await AnswerMemory.of_evaluation(store, "new"))) == new
    assert (await answer(cache, await AnswerMemory.of_run(store, "old"))) == old
    assert cache.paid["llm"] == 2
    evaluated = await answer(cache, await AnswerMemory.of_evaluation(store, "new", fresh=True))
    assert (evaluated != new, cache.paid["llm"]) == (True, 3)
    assert (await answer(cache, await AnswerMemory.of_run(store, "new"))) == new


async def test_a_repeated_evaluation_pays_nothing_and_a_fresh_one_asks_anew(store: Store) -> None:
    cache = CallCache(store)
    key = await discard(cache, await AnswerMemory.of_evaluation(store, "r"))
    assert (await answer(cache, await AnswerMemory.of_evaluation(store, "r"))).effect_key == key
    assert (await answer(cache, await AnswerMemory.of_run(store, "r"))).effect_key != key
    fresh = await AnswerMemory.of_evaluation(store, "r", fresh=True)
    assert (await answer(cache, fresh)).effect_key != key


async def test_a_run_that_begins_again_is_not_given_what_it_discarded(store: Store) -> None:
    cache = CallCache(store)
    memory = await AnswerMemory.of_run(store, "r")
    key = await discard(cache, memory)
    await memory.begin_again()
    assert (await answer(cache, memory)).effect_key != key


async def test_a_model_with_its_own_weights_keeps_its_answers(store: Store) -> None:
    cache = CallCache(store)
    key = await discard(cache, await AnswerMemory.of_run(store, "one"), Weights())
    other = await AnswerMemory.of_run(store, "two", fresh=True)
    assert (await answer(cache, other, Weights())).effect_key == key
    assert cache.paid["llm"] == 1


async def test_concurrent_equal_requests_are_one_call(store: Store) -> None:
    cache = CallCache(store)
    memory = await AnswerMemory.of_run(store, "one")
    answers = await asyncio.gather(*(answer(cache, memory) for _ in range(5)))
    assert len({a.effect_key for a in answers}) == cache.paid["llm"] == 1
