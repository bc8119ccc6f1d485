"""Rewrites prompts with an instruction that a run has found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from autogen_core.models import ChatCompletionClient

from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.style import style_of
from bigpe.services.core.retrying import RetryRule, retry
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.llm.service import LlmService, load_client
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCache, CallCacheProtocol, InMemoryCallCache
from bigpe.services.store.database import Store

AT_A_TIME = 16
"""Most prompts in flight: sent to the language model, or waiting for earlier prompts."""


async def refine(
    prompts: Sequence[str],
    *,
    instruction: Instruction,
    config: BigpeConfig | None = None,
    database: Path | None = None,
    seed: int = 0,
) -> list[str]:
    """Rewrite prompts under an instruction.

    Args:
        prompts: Naive prompts.
        instruction: How to rewrite, for example `session.pool.best().instruction`.
        config: Names the language model and the constraints; None: the defaults, which are the
            embedded model and no constraints.
        database: The database of a project. Its call cache answers repeated requests.
        seed: Equal seeds give equal rewrites.

    Returns:
        One text for each prompt, in order. A prompt that cannot be rewritten is returned unchanged.

    Raises:
        ConfigError: The language model cannot be loaded.
        BigpeError: The language model fails, and a retry does not help.
    """
    done = await refine_fully(
        prompts, instruction=instruction, config=config, database=database, seed=seed
    )
    return [result.text for result in done]


async def refine_fully(
    prompts: Sequence[str],
    *,
    instruction: Instruction,
    config: BigpeConfig | None = None,
    database: Path | None = None,
    seed: int = 0,
) -> list[Rewrite]:
    """Like `refine`, with the attempts and the reason of each fallback."""

    async def each() -> AsyncGenerator[str]:
        for prompt in prompts:
            yield prompt

    stream = refine_each(
        each(), instruction=instruction, config=config, database=database, seed=seed
    )
    return [result async for result in stream]


async def refine_each(
    prompts: AsyncIterable[str],
    *,
    instruction: Instruction,
    config: BigpeConfig | None = None,
    database: Path | None = None,
    seed: int = 0,
) -> AsyncGenerator[Rewrite]:
    """Like `refine_fully`, but yields each result as soon as it and all earlier results exist.

    At most `AT_A_TIME` prompts are read ahead, so `prompts` may be endless.
    """
    async with Refiner.open(instruction, config, database=database, seed=seed) as refiner:
        ahead: asyncio.Queue[asyncio.Task[Rewrite] | None] = asyncio.Queue(AT_A_TIME)

        async def feed() -> None:
            try:
                async for prompt in prompts:
                    await ahead.put(asyncio.create_task(refiner.rewrite(prompt)))
            finally:
                await ahead.put(None)

        feeding = asyncio.create_task(feed())
        try:
            while (task := await ahead.get()) is not None:
                yield await task
            await feeding
        finally:
            feeding.cancel()
            while not ahead.empty():
                if (task := ahead.get_nowait()) is not None:
                    task.cancel()


class Refiner:
    """Rewrites prompts with an instruction, and keeps its language model open between them."""

    def __init__(
        self,
        llm: LlmService,
        instruction: Instruction,
        config: BigpeConfig,
        *,
        seed: int = 0,
        retry: RetryRule | None = None,
    ) -> None:
        self._llm = llm
        self._instruction = instruction
        self._style = style_of(config, lambda role: llm)
        self._seed = seed
        self._retry = retry or RetryRule()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        instruction: Instruction,
        config: BigpeConfig | None = None,
        *,
        client: ChatCompletionClient | None = None,
        database: Path | None = None,
        seed: int = 0,
        retry: RetryRule | None = None,
    ) -> AsyncGenerator[Refiner]:
        """Open the language model.

        Args:
            instruction: the instruction of all rewrites.
            config: names the language model and the constraints (default: `BigpeConfig()`).
            client: replaces the generator's model of `config`, and is not closed.
            database: the project database with the call cache; default: a cache in memory.
            seed: seed of the language model.
            retry: rule for failed calls (default: `RetryRule()`).
        """
        config = config or BigpeConfig()
        wanted = config.llm_for("generator")
        async with AsyncExitStack() as stack:
            cache: CallCacheProtocol = InMemoryCallCache()
            memory = AnswerMemory()
            if database is not None:
                store = await stack.enter_async_context(Store(database))
                cache, memory = CallCache(store), await AnswerMemory.of_session(store)
                stack.push_async_callback(cache.close)
            llm = LlmService(client or load_client(wanted), cache, config=wanted, memory=memory)
            if client is None:
                stack.push_async_callback(llm.close)
            yield cls(llm, instruction, config, seed=seed, retry=retry)

    async def rewrite(self, prompt: str) -> Rewrite:
        """Rewrite `prompt`. Equal prompts get equal rewrites.

        Raises BigpeError if the service fails permanently, or in each attempt.
        """
        llm_seed = derive_seed(self._seed, "refine", prompt)
        return await retry(
            lambda: self._style.rewrite(self._llm, self._instruction, prompt, llm_seed),
            self._retry,
        )
