"""Rewrite prompts under an instruction that a run has found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from autogen_core.models import ChatCompletionClient

from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.runtime.project.config import BigpeConfig
from bigpe.services.core.retrying import RetryRule, retry
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.llm.service import LlmService, load_client
from bigpe.services.store.call_cache import CallCache, CallCacheProtocol, InMemoryCallCache
from bigpe.services.store.database import Store

AT_A_TIME = 16
"""Prompts that are at the language model, or wait for those before them."""


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
    """Like `refine`, with attempts and the reason of every fallback."""

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
    """Like `refine_fully`, each result as soon as it and those before it are there.

    At most `AT_A_TIME` prompts are taken ahead, so `prompts` may be a pipe without end.
    """
    async with Refiner.open(instruction, config, database=database, seed=seed) as refiner:
        ahead: asyncio.Queue[asyncio.Task[Rewrite] | None] = asyncio.Queue(AT_A_TIME)

        async def feed() -> None:
            try:
                async for prompt in prompts:
                    await ahead.put(asyncio.create_task(refiner.one(prompt)))
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
    """A language model, told one instruction, that stays open between prompts."""

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
        self._constraints = config.constraints
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
        """`client` replaces the model that `config` names for the generator, and is not closed;
        without a `database` what was asked is remembered until the end of the block.
        """
        config = config or BigpeConfig()
        wanted = config.llm_for("generator")
        async with AsyncExitStack() as stack:
            memo: CallCacheProtocol = InMemoryCallCache()
            if database is not None:
                memo = CallCache(await stack.enter_async_context(Store(database)))
                stack.push_async_callback(memo.close)
            llm = LlmService(client or load_client(wanted), memo, config=wanted)
            if client is None:
                stack.push_async_callback(llm.close)
            yield cls(llm, instruction, config, seed=seed, retry=retry)

    async def one(self, prompt: str) -> Rewrite:
        """Rewrite `prompt`. Equal prompts get equal rewrites.

        Raises BigpeError when the service fails for good, or transiently in every attempt.
        """
        llm_seed = derive_seed(self._seed, "refine", prompt)
        return await retry(
            lambda: rewrite(self._llm, self._instruction, prompt, llm_seed, self._constraints),
            self._retry,
        )
