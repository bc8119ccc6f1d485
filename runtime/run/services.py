"""The services of a session, opened together and closed in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from autogen_core.models import ChatCompletionClient

from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.rules import ReasoningConfig, Role, role_rules
from bigpe.agents.reasoning.styles import style_package
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.style import style_of
from bigpe.services.backends import ServiceContext, open_renderer, open_scorer
from bigpe.services.core.outages.watch import OutageWatch
from bigpe.services.llm.config import load_client
from bigpe.services.llm.learned import LearnedServers
from bigpe.services.llm.service import LlmConfig, LlmService
from bigpe.services.processes.cpu import process_cores
from bigpe.services.render.negatives import require_reader
from bigpe.services.render.service import Renderer, RenderService
from bigpe.services.score.service import Scorer, ScoreService
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import CallCache, CallCacheProtocol


@dataclass(frozen=True)
class Services:
    """The services of a session. `open_services` makes and closes them."""

    llm: Callable[[str], LlmService]
    """Returns the language model service of an actor."""
    render: RenderService
    score: ScoreService
    guards: Mapping[str, ScoreService]
    """The guards by name. Evaluations use them, runs do not."""
    blobs: BlobStore
    effects: CallCache
    watch: OutageWatch
    """The outages of all services."""
    style: ReasoningStyle
    """How agents think, with the limits of their requests and the constraints of their texts."""
    reasoning: ReasoningConfig = ReasoningConfig()
    """Limits of the requests, and what rewrites must keep."""
    memory: AnswerMemory = field(default_factory=AnswerMemory)
    """Which stored answers of language models may be used."""

    @property
    def most_calls(self) -> dict[str, int]:
        """The largest number of calls of a language model for one text, by role."""
        roles: tuple[Role, ...] = ("generator", "gradient", "modifier")
        return {r: role_rules(r, self.llm(r), self.reasoning).most_calls for r in roles}

    @property
    def plan_fields(self) -> dict[str, Any]:
        """What a plan says about the agents: their style, and the calls that a text may take."""
        return {
            "style": self.style.name,
            "style_package": style_package(self.style.name),
            "most_calls": self.most_calls,
        }

    async def open_models(self) -> tuple[str, str]:
        """Load renderer and scorer in parallel; returns their fingerprints.

        ConfigError if a model cannot be loaded.
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
    memory: AnswerMemory | None = None,
    llms: Mapping[str, ChatCompletionClient] | None = None,
    renderer: Renderer | None = None,
    scorer: Scorer | None = None,
    guards: Mapping[str, Scorer] | None = None,
    watch: OutageWatch | None = None,
) -> AsyncGenerator[Services]:
    """Open the services that `config` names. Models load on their first use, not here.

    `effects` is the call cache of language models and renderer, `scores` that of all scorers; it
    decides what may be scored (see `held_out`). `memory` decides which answers of language models
    may be used; None: all. `llms` to `guards` replace models of `config`, `watch` its rule on
    outages.
    """
    memory = memory or AnswerMemory()
    blobs = BlobStore(project.images)
    watch = watch or OutageWatch(config.run.outages)

    def context(worker: str) -> ServiceContext:
        log_path = project.worker_log(run, worker)
        return ServiceContext(
            blobs, project.folder, log_path, config.workers, process_cores(), watch
        )

    async with AsyncExitStack() as stack:
        if renderer is not None:
            require_reader(config.render, renderer)
        image_model = renderer or open_renderer(config.render, context("render"))
        stack.push_async_callback(image_model.close)
        render = RenderService(image_model, effects, blobs, config.render)
        stack.push_async_callback(render.close)
        score_model = scorer or open_scorer(config.score, context("score"))
        stack.push_async_callback(score_model.close)
        score = ScoreService(score_model, scores, config.score)
        stack.push_async_callback(score.close)
        guard_services = _guard_services(config, scores, stack, guards or {}, context)
        learned = await LearnedServers(effects.store).load()
        llm = _llm_services(config, effects, memory, blobs, stack, llms or {}, learned, watch)
        yield Services(
            llm=llm,
            render=render,
            score=score,
            guards=guard_services,
            blobs=blobs,
            effects=effects,
            watch=watch,
            style=style_of(config, llm),
            reasoning=config.reasoning,
            memory=memory,
        )


def _guard_services(
    config: BigpeConfig,
    scores: CallCacheProtocol,
    stack: AsyncExitStack,
    given: Mapping[str, Scorer],
    context: Callable[[str], ServiceContext],
) -> dict[str, ScoreService]:
    """The guards by name."""
    made: dict[str, ScoreService] = {}
    for guard in config.score.guard:
        model = given.get(guard.name) or open_scorer(guard, context(f"guard-{guard.name}"))
        stack.push_async_callback(model.close)
        made[guard.name] = ScoreService(model, scores, guard)
        stack.push_async_callback(made[guard.name].close)
    return made


def _llm_services(
    config: BigpeConfig,
    effects: CallCache,
    memory: AnswerMemory,
    blobs: BlobStore,
    stack: AsyncExitStack,
    given: Mapping[str, ChatCompletionClient],
    learned: LearnedServers,
    watch: OutageWatch,
) -> Callable[[str], LlmService]:
    """Returns one service per distinct model configuration, shared by its actors."""
    made: dict[str, LlmService] = {}

    def service(role: str) -> LlmService:
        wanted: LlmConfig = config.llm_for(role)
        client = given.get(role) or given.get("default")
        key = f"given/{id(client)}" if client else wanted.model_dump_json()
        if key not in made:
            made[key] = LlmService(
                client or load_client(wanted),
                effects,
                config=wanted,
                picture=blobs.read,
                memory=memory,
                learned=learned,
                watch=watch,
            )
            stack.push_async_callback(made[key].close)
        return made[key]

    return service
