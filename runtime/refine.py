"""Rewrite prompts under an instruction that a run has found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bigpe.agents.rewriting import Rewrite, rewrite
from bigpe.runtime.config import BigpeConfig
from bigpe.services.effects import Effects
from bigpe.services.llm import LlmService, load_client
from bigpe.services.store import Store
from bigpe.services.values import Instruction, derive_seed

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
    """The rewritten prompts, in order; a prompt that could not be rewritten comes back as it was.

    `database`: a project's, whose memo then answers what was asked before.
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
    config = config or BigpeConfig()
    wanted = config.llm_for("generator")
    async with AsyncExitStack() as stack:
        if database is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="bigpe-"))
            database = Path(folder) / "memo.db"
        store = await stack.enter_async_context(Store(database))
        llm = LlmService(load_client(wanted), Effects(store), config=wanted)
        stack.push_async_callback(llm.close)
        ahead: asyncio.Queue[asyncio.Task[Rewrite] | None] = asyncio.Queue(AT_A_TIME)

        async def feed() -> None:
            try:
                async for prompt in prompts:
                    llm_seed = derive_seed(seed, "refine", prompt)
                    work = rewrite(llm, instruction, prompt, llm_seed, config.constraints)
                    await ahead.put(asyncio.create_task(work))
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
