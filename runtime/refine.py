"""Rewrite prompts under an instruction that a run has found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bigpe.agents.rewriting import Rewrite, rewrite
from bigpe.runtime.config import BigpeConfig
from bigpe.services.effects import Effects
from bigpe.services.llm import LlmService, load_client
from bigpe.services.store import Store
from bigpe.services.values import Instruction, derive_seed


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
    config = config or BigpeConfig()
    wanted = config.llm_for("generator")
    async with AsyncExitStack() as stack:
        if database is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="bigpe-"))
            database = Path(folder) / "memo.db"
        store = await stack.enter_async_context(Store(database))
        llm = LlmService(load_client(wanted), Effects(store), config=wanted)
        stack.push_async_callback(llm.close)
        tasks = [
            rewrite(
                llm, instruction, prompt, derive_seed(seed, "refine", prompt), config.constraints
            )
            for prompt in prompts
        ]
        return list(await asyncio.gather(*tasks))
