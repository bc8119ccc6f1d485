"""Models that are opened once and shared by many runs, with a stopwatch on each.

A session closes its models at its end, so a grid of 100 short runs would load them 100 times.
A shared model stays open. It measures its own calls, because the time of a run that uses the call
cache is no basis for a forecast.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, ModelInfo

from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.services.backends import ServiceContext, open_renderer, open_scorer
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.values import Image, Json, RenderRequest, Score, ScoreRequest
from bigpe.services.llm.base_client import BaseLlmClient
from bigpe.services.llm.config import class_name, load_client
from bigpe.services.llm.learned import LearnedServers
from bigpe.services.llm.service import LearningClient
from bigpe.services.models.fingerprints import Composed
from bigpe.services.processes.batch_queue import ParallelModel, parallelism_of
from bigpe.services.processes.cpu import process_cores
from bigpe.services.processes.model_service import Model
from bigpe.services.render.service import Renderer
from bigpe.services.score.service import Scorer, SupportsImages
from bigpe.services.store.blobs import BlobStore

M = TypeVar("M", bound=Model)
Kind = Literal["render", "score", "llm"]
KINDS: tuple[Kind, ...] = ("render", "score", "llm")


@dataclass
class Stopwatch:
    """Time in which at least one call ran, and the number of items of all calls."""

    busy_s: float = 0.0
    items: int = 0
    _under_way: int = 0
    _since: float = 0.0

    @contextmanager
    def running(self, items: int) -> Generator[None]:
        """Measure the block, a call of `items` items."""
        if not self._under_way:
            self._since = time.monotonic()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self.items += items
            if not self._under_way:
                self.busy_s += time.monotonic() - self._since

    @property
    def seconds(self) -> float | None:
        """Seconds per item; None before the first."""
        return self.busy_s / self.items if self.items else None


class Stopwatches:
    """A stopwatch for each kind of model, stored in a file of the project."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.of: dict[Kind, Stopwatch] = {kind: Stopwatch() for kind in KINDS}
        if path.exists():
            stored = json.loads(path.read_text("utf-8"))
            for kind in KINDS:
                busy, items = stored.get(kind, (0.0, 0))
                self.of[kind] = Stopwatch(float(busy), int(items))

    def save(self) -> None:
        """Write the measurements to the file."""
        measured = {kind: [watch.busy_s, watch.items] for kind, watch in self.of.items()}
        with partial_file(self._path) as partial:
            partial.write_text(json.dumps(measured), encoding="utf-8")

    def cost(self, renders: float, scores: float, llm_calls: float) -> float | None:
        """Seconds of that many calls one after the other; None until each rate is measured."""
        counts: dict[Kind, float] = {"render": renders, "score": scores, "llm": llm_calls}
        rates = {kind: watch.seconds for kind, watch in self.of.items()}
        total = 0.0
        for kind, count in counts.items():
            rate = rates[kind]
            if rate is None:
                return None
            total += count * rate
        return total


@dataclass(frozen=True)
class SharedModels:
    """Models that several runs use. Who opened them closes them."""

    renderer: Renderer
    scorer: Scorer
    llms: Mapping[str, ChatCompletionClient]
    """Clients by role; "default" is for all other roles."""


class _Shared(Generic[M]):
    """A renderer or scorer that its owner closes, not its user."""

    def __init__(self, model: M, watch: Stopwatch) -> None:
        self.parallelism = parallelism_of(model)
        self._model = model
        self._watch = watch

    async def open(self) -> str:
        """See `Renderer.open` and `Scorer.open`."""
        return await self._model.open()

    @property
    def fingerprint_inputs(self) -> Json:
        """See `fingerprints.Composed`."""
        return self._model.fingerprint_inputs if isinstance(self._model, Composed) else {}

    async def close(self) -> None:
        """Do nothing: the owner closes the model."""


class _SharedRenderer(_Shared[Renderer]):
    async def render(self, requests: Sequence[RenderRequest]) -> Sequence[Image | Exception]:
        with self._watch.running(len(requests)):
            return await self._model.render(requests)


class _SharedScorer(_Shared[Scorer]):
    async def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Score | Exception]:
        with self._watch.running(len(requests)):
            return await self._model.score(requests)


class _SharedImageScorer(_SharedScorer):
    """A shared scorer that also computes image features."""

    async def features(self, image: str) -> list[float]:
        assert isinstance(self._model, SupportsImages)
        return await self._model.features(image)


class _SharedLlm(BaseLlmClient):
    """A model client that its owner closes, not its user. It has the fingerprint of the client."""

    parallelism: int
    """Only present if the client has it."""

    def __init__(self, client: ChatCompletionClient, watch: Stopwatch) -> None:
        super().__init__()
        self.fingerprint: str | None = getattr(client, "fingerprint", None)
        self.fingerprint_class = class_name(client)
        if isinstance(client, ParallelModel):
            self.parallelism = client.parallelism
        self._client = client
        self._watch = watch

    @property
    def model_info(self) -> ModelInfo:
        return self._client.model_info

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        return bool(getattr(self._client, "thinks", False))

    def learn_in(self, learned: LearnedServers) -> None:
        """Keep in `learned` what the client's server refuses, if the client learns."""
        if isinstance(self._client, LearningClient):
            self._client.learn_in(learned)

    async def create(
        self, messages: Sequence[LLMMessage], *args: Any, **kwargs: Any
    ) -> CreateResult:
        with self._watch.running(1):
            result = await self._client.create(messages, *args, **kwargs)
        self._count(result.usage)
        return result

    async def close(self) -> None:
        """Do nothing: the owner closes the client."""


def share_models(models: SharedModels, watches: Stopwatches) -> SharedModels:
    """The same models, timed, with a `close` that does nothing. Call it once for each model."""
    clients = {id(client): client for client in models.llms.values()}
    shared = {key: _SharedLlm(client, watches.of["llm"]) for key, client in clients.items()}
    scorer = _SharedImageScorer if isinstance(models.scorer, SupportsImages) else _SharedScorer
    return SharedModels(
        renderer=_SharedRenderer(models.renderer, watches.of["render"]),
        scorer=scorer(models.scorer, watches.of["score"]),
        llms={role: shared[id(client)] for role, client in models.llms.items()},
    )


@asynccontextmanager
async def open_models(
    config: BigpeConfig, project: Project, watches: Stopwatches
) -> AsyncGenerator[SharedModels]:
    """The models of `config`, shared. Their processes start at first use and end with the block."""
    blobs = BlobStore(project.images)

    def context(worker: str) -> ServiceContext:
        log_path = project.worker_log("experiment", worker)
        return ServiceContext(blobs, project.folder, log_path, cores=process_cores())

    async with AsyncExitStack() as stack:
        renderer = open_renderer(config.render, context("render"))
        stack.push_async_callback(renderer.close)
        scorer = open_scorer(config.score, context("score"))
        stack.push_async_callback(scorer.close)
        llms = {role: load_client(config.llm_for(role)) for role in {"default", *config.llm}}
        for client in llms.values():
            stack.push_async_callback(client.close)
        yield share_models(SharedModels(renderer, scorer, llms), watches)
