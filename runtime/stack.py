"""The services of a session, opened together and closed in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from autogen_core.models import ChatCompletionClient

from bigpe.runtime.config import BigpeConfig
from bigpe.runtime.project import Project
from bigpe.services import plugins
from bigpe.services.blobs import BlobStore
from bigpe.services.effects import Effects, Memo
from bigpe.services.hpsv2_package import Hpsv2PackageScorer
from bigpe.services.llm import LlmConfig, LlmService, load_client
from bigpe.services.render import DiffusersRenderer, RenderConfig, Renderer, RenderService
from bigpe.services.score import ClipScorer, ScoreConfig, Scorer, ScoreService


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
    effects: Effects

    async def open_models(self) -> None:
        """Load renderer and scorer side by side; ConfigError when one cannot be loaded."""
        await asyncio.gather(self.render.open(), self.score.open())


@asynccontextmanager
async def open_services(
    config: BigpeConfig,
    project: Project,
    effects: Effects,
    scores: Memo,
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
    async with AsyncExitStack() as stack:
        painter = renderer or _renderer(config.render, blobs, project.worker_log(run, "render"))
        stack.push_async_callback(painter.close)
        render = RenderService(painter, effects, blobs, config.render)
        stack.push_async_callback(render.close)
        judge = scorer or _scorer(config.score, blobs, project.worker_log(run, "score"))
        stack.push_async_callback(judge.close)
        score = ScoreService(judge, scores, config.score)
        stack.push_async_callback(score.close)
        seconds: dict[str, ScoreService] = {}
        for guard in config.score.guard:
            log_path = project.worker_log(run, f"guard-{guard.name}")
            second = (guards or {}).get(guard.name) or _scorer(guard, blobs, log_path)
            stack.push_async_callback(second.close)
            seconds[guard.name] = ScoreService(second, scores, guard)
            stack.push_async_callback(seconds[guard.name].close)
        llm = _llm_services(config, effects, stack, llms or {})
        yield Services(
            llm=llm, render=render, score=score, guards=seconds, blobs=blobs, effects=effects
        )


def _renderer(config: RenderConfig, blobs: BlobStore, log_path: Path) -> Renderer:
    match config.backend:
        case "diffusers":
            return DiffusersRenderer(config, blobs, log_path=log_path)
        case name:
            return plugins.make("renderers", name, config, blobs)


def _scorer(config: ScoreConfig, blobs: BlobStore, log_path: Path) -> Scorer:
    match config.backend:
        case "clip":
            return ClipScorer(config, blobs, log_path=log_path)
        case "hpsv2-package":
            return Hpsv2PackageScorer(config, blobs, log_path=log_path)
        case name:
            return plugins.make("scorers", name, config, blobs)


def _llm_services(
    config: BigpeConfig,
    effects: Effects,
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
            made[key] = LlmService(client or load_client(wanted), effects, config=wanted)
            stack.push_async_callback(made[key].close)
        return made[key]

    return service
