"""Rewrites prompts with an instruction that a run has found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from autogen_core.models import ChatCompletionClient

from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.style import style_of
from bigpe.services.core.errors import STOPS_RUN, BigpeError, ServiceError
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.core.retrying import RetryRule, retry
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.llm.config import load_client
from bigpe.services.llm.learned import LearnedServers
from bigpe.services.llm.service import LlmService
from bigpe.services.prompt_data.files import PromptRow
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCache, CallCacheProtocol, InMemoryCallCache
from bigpe.services.store.database import Store

AT_A_TIME = 16
"""Most prompts in flight: sent to the language model, or waiting for earlier prompts."""
STOPS_AFTER = 8
"""Failed calls in a row after which no further prompt is tried: the service fails, not a prompt."""


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
        BigpeError: The language model fails for all prompts, or for eight in a row.
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

    async def each() -> AsyncGenerator[PromptRow]:
        for number, prompt in enumerate(prompts, start=1):
            yield PromptRow(number, prompt)

    async with Refiner.open(instruction, config, database=database, seed=seed) as refiner:
        done = [result async for result in RefineStream(refiner).results(each())]
    failures = [result.error for result in done if result.error is not None]
    if failures and len(failures) == len(done):
        raise failures[0]
    return [result.as_rewrite() for result in done]


class RefinedRow(NamedTuple):
    """What became of one row: its rewrite, or its own text and why."""

    row: PromptRow
    rewrite: Rewrite | None = None
    """None if the row holds no prompt, or the call failed."""
    error: BigpeError | None = None
    """The failure of the call."""

    @property
    def text(self) -> str:
        """The rewritten prompt, or the row's text."""
        return self.rewrite.text if self.rewrite else self.row.text

    @property
    def reason(self) -> str | None:
        """Why the row comes out as it went in; None if it is rewritten."""
        if self.error is not None:
            return str(self.error)
        return self.rewrite.fallback if self.rewrite else self.row.fault

    @property
    def cause(self) -> Literal["input", "answer", "call"] | None:
        """What the reason is about: the row, the model's answer, or the call."""
        if self.reason is None:
            return None
        return "call" if self.error else "answer" if self.rewrite else "input"

    def as_rewrite(self) -> Rewrite:
        """The result as a rewrite; a fallback if there is none."""
        return self.rewrite or Rewrite(
            naive=self.row.text, text=self.row.text, fallback=self.reason, attempts=1
        )


class RefineStream:
    """Rewrites rows, several at a time, and yields the results in the order of the rows.

    A failed call concerns its row alone: the row comes out as it went in.
    """

    left: list[RefinedRow]
    """Results that exist and were not yielded, if the stream has ended early."""

    def __init__(self, refiner: Refiner) -> None:
        self._refiner = refiner
        self.left = []

    async def results(self, rows: AsyncIterable[PromptRow]) -> AsyncGenerator[RefinedRow]:
        """Yield each result as soon as it and all earlier results exist.

        At most `AT_A_TIME` rows are read ahead, so `rows` may be endless.

        Raises:
            BigpeError: An error that concerns all rows, or `STOPS_AFTER` failed calls in a row.
        """
        ahead: asyncio.Queue[asyncio.Task[RefinedRow] | None] = asyncio.Queue(AT_A_TIME)

        async def feed() -> None:
            try:
                async for row in rows:
                    await ahead.put(asyncio.create_task(self._refined(row)))
            finally:
                await ahead.put(None)

        feeding = asyncio.create_task(feed())
        failed = 0
        try:
            while (task := await ahead.get()) is not None:
                result = await task
                if result.row.fault is None:
                    failed = failed + 1 if result.error else 0
                if result.error and failed >= STOPS_AFTER:
                    raise result.error
                yield result
            await feeding
        finally:
            feeding.cancel()
            self._keep_finished(ahead)

    async def _refined(self, row: PromptRow) -> RefinedRow:
        if row.fault is not None:
            return RefinedRow(row)
        try:
            return RefinedRow(row, await self._refiner.rewrite(row.text))
        except STOPS_RUN:  # the next prompt would meet it, too
            raise
        except ServiceError as error:
            return RefinedRow(row, error=error)

    def _keep_finished(self, ahead: asyncio.Queue[asyncio.Task[RefinedRow] | None]) -> None:
        while not ahead.empty():
            task = ahead.get_nowait()
            if task is None:
                continue
            if task.done() and not task.cancelled() and task.exception() is None:
                self.left.append(task.result())
            else:
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
        watch: OutageWatch | None = None,
        fresh: bool = False,
    ) -> AsyncGenerator[Refiner]:
        """Open the language model.

        Args:
            instruction: the instruction of all rewrites.
            config: names the language model and the constraints (default: `BigpeConfig()`).
            client: replaces the generator's model of `config`, and is not closed.
            database: the project database with the call cache; default: a cache in memory.
            seed: seed of the language model.
            retry: rule for failed calls (default: `RetryRule()`).
            watch: how long the language model is waited for (default: `[run] outage_minutes`).
            fresh: ask anew what the call cache has.
        """
        config = config or BigpeConfig()
        wanted = config.llm_for("generator")
        async with AsyncExitStack() as stack:
            cache: CallCacheProtocol = InMemoryCallCache()
            memory, learned = AnswerMemory(), LearnedServers()
            if database is not None:
                store = await stack.enter_async_context(Store(database))
                cache = CallCache(store)
                stack.push_async_callback(cache.close)
                memory = await AnswerMemory.of_session(store, fresh=fresh)
                learned = await LearnedServers(store).load()
            llm = LlmService(
                client or load_client(wanted),
                cache,
                config=wanted,
                memory=memory,
                learned=learned,
                watch=watch or OutageWatch(config.run.outages),
            )
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
