"""The services of a session, opened together and closed in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from autogen_core.models import ChatCompletionClient

from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.services.backends import ServiceContext, open_renderer, open_scorer
from bigpe.services.llm.service import LlmConfig, LlmService, load_client
from bigpe.services.processes.cpu import process_cores
from bigpe.services.render.service import Renderer, RenderService
from bigpe.services.score.service import Scorer, ScoreService
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import CallCache, CallCacheProtocol


@dataclass(frozen=True)
class Services:
    """What the actors use."""

    llm: Callable[[str], LlmService]
    """The language model service of a role."""
    render: RenderService
    score: ScoreService
    guards: Mapping[str, ScoreService]
    """The second scorers, by name; no run asks them, evaluations do."""
    blobs: BlobStore
    effects: CallCache
    constraints: Constraints = NONE
    """What rewrites are held to."""

    async def open_models(self) -> tuple[str, str]:
        """Load renderer and scorer side by side; returns their fingerprints.

        ConfigError when one cannot be loaded.
        """
        return await asyncio.gather(self.render.open(), self.score.open())


@asynccontextmanager
async def open_services(
    config: BigpeConfig,
    project: Project,
    effects: CallCache,
    scores: CallCacheProtocol,
    *,
    run: str,
    llms: Mapping[str, ChatCompletionClient] | None = None,
    renderer: Renderer | None = None,
    scorer: Scorer | None = None,
    guards: Mapping[str, Scorer] | None = None,
) -> AsyncGenerator[Services]:
    """The services that `config` names; `llms`, `renderer`, `scorer`, `guards` replace its models.

    Models load in child processes on their first use, not here. `scores`: the memo of all scorers,
    which decides what may be scored (see `held_out`); `effects`: that of the rest.
    """
    blobs = BlobStore(project.images)

    def context(worker: str) -> ServiceContext:
        log_path = project.worker_log(run, worker)
        return ServiceContext(blobs, project.folder, log_path, config.workers, process_cores())

    async with AsyncExitStack() as stack:
        painter = renderer or open_renderer(config.render, context("render"))
        stack.push_async_callback(painter.close)
        render = RenderService(painter, effects, blobs, config.render)
        stack.push_async_callback(render.close)
        judge = scorer or open_scorer(config.score, context("score"))
        stack.push_async_callback(judge.close)
        score = ScoreService(judge, scores, config.score)
        stack.push_async_callback(score.close)
        seconds: dict[str, ScoreService] = {}
        for guard in config.score.guard:
            place = context(f"guard-{guard.name}")
            second = (guards or {}).get(guard.name) or open_scorer(guard, place)
            stack.push_async_callback(second.close)
            seconds[guard.name] = ScoreService(second, scores, guard)
            stack.push_async_callback(seconds[guard.name].close)
        llm = _llm_services(config, effects, blobs, stack, llms or {})
        yield Services(
            llm=llm,
            render=render,
            score=score,
            guards=seconds,
            blobs=blobs,
            effects=effects,
            constraints=config.constraints,
        )


def _llm_services(
    config: BigpeConfig,
    effects: CallCache,
    blobs: BlobStore,
    stack: AsyncExitStack,
    given: Mapping[str, ChatCompletionClient],
) -> Callable[[str], LlmService]:
    """One service per distinct model configuration, shared by the roles that use it."""
    made: dict[str, LlmService] = {}

    def service(role: str) -> LlmService:
        wanted: LlmConfig = config.llm_for(role)
        client = given.get(role) or given.get("default")
        key = f"given/{id(client)}" if client else wanted.model_dump_json()
        if key not in made:
            made[key] = LlmService(
                client or load_client(wanted), effects, config=wanted, picture=blobs.read
            )
            stack.push_async_callback(made[key].close)
        return made[key]

    return service
