"""Models opened once and lent to many runs, with a stopwatch on each.

A session closes its models when it ends; a grid of a hundred short runs would load them a hundred
times. A lent model stays open, and tells how long its calls really took: a run that finds most of
its calls in the memo says nothing about that.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autogen_core.models import ChatCompletionClient

from bigpe.runtime.config import BigpeConfig
from bigpe.runtime.project import Project
from bigpe.services.backends import Workplace, open_renderer, open_scorer
from bigpe.services.blobs import BlobStore
from bigpe.services.cores import process_cores
from bigpe.services.files import partial_file
from bigpe.services.llm import load_client
from bigpe.services.render import Renderer
from bigpe.services.score import Scorer

Kind = Literal["render", "score", "llm"]
KINDS: tuple[Kind, ...] = ("render", "score", "llm")


@dataclass
class Stopwatch:
    """Time in which at least one call was under way, and how many items were asked for."""

    busy_s: float = 0.0
    items: int = 0
    _under_way: int = 0
    _since: float = 0.0

    def start(self) -> None:
        """A call begins."""
        if not self._under_way:
            self._since = time.monotonic()
        self._under_way += 1

    def stop(self, items: int) -> None:
        """A call of so many items is over."""
        self._under_way -= 1
        self.items += items
        if not self._under_way:
            self.busy_s += time.monotonic() - self._since

    @property
    def seconds(self) -> float | None:
        """Seconds an item; None before the first."""
        return self.busy_s / self.items if self.items else None


class Stopwatches:
    """A watch for each kind of model, kept in a project from one process to the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.of: dict[Kind, Stopwatch] = {kind: Stopwatch() for kind in KINDS}
        if path.exists():
            stored = json.loads(path.read_text("utf-8"))
            for kind in KINDS:
                busy, items = stored.get(kind, (0.0, 0))
                self.of[kind] = Stopwatch(float(busy), int(items))

    def save(self) -> None:
        """Remember what was measured."""
        told = {kind: [watch.busy_s, watch.items] for kind, watch in self.of.items()}
        with partial_file(self._path) as partial:
            partial.write_text(json.dumps(told), encoding="utf-8")

    def cost(self, renders: float, scores: float, llm_calls: float) -> float | None:
        """Seconds of so many calls one after the other; None while a rate is not known."""
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
class Models:
    """What runs share; whoever opened them closes them."""

    renderer: Renderer
    scorer: Scorer
    llms: Mapping[str, ChatCompletionClient]
    """By role, "default" for the rest."""


def lend(models: Models, watches: Stopwatches) -> Models:
    """The same models, timed, whose `close` does nothing until the owner takes them back."""
    _instrument(models.renderer, "render", watches.of["render"], len)
    _instrument(models.scorer, "score", watches.of["score"], len)
    for client in models.llms.values():
        _instrument(client, "create", watches.of["llm"], lambda _: 1)
    return models


def _instrument(model: object, method: str, watch: Stopwatch, count: Callable[[Any], int]) -> None:
    # On the instance: a wrapper would be another class, and a model's class is part of its
    # fingerprint, so that nothing paid before would be found again.
    own = vars(model)
    if "close" in own:
        return
    call = getattr(model, method)

    async def timed(asked: Any, *args: Any, **kwargs: Any) -> Any:
        watch.start()
        try:
            return await call(asked, *args, **kwargs)
        finally:
            watch.stop(count(asked))

    async def stay_open() -> None:
        """The owner closes it."""

    own[method] = timed
    own["close"] = stay_open


@asynccontextmanager
async def open_models(
    config: BigpeConfig, project: Project, watches: Stopwatches
) -> AsyncGenerator[Models]:
    """The models of `config`, lent; their processes start with first use, end with the block."""
    blobs = BlobStore(project.images)

    def workplace(worker: str) -> Workplace:
        log_path = project.worker_log("experiment", worker)
        return Workplace(blobs, project.folder, log_path, cores=process_cores())

    renderer = open_renderer(config.render, workplace("render"))
    scorer = open_scorer(config.score, workplace("score"))
    llms = {role: load_client(config.llm_for(role)) for role in {"default", *config.llm}}
    async with AsyncExitStack() as stack:
        owned: list[Any] = [renderer, scorer, *llms.values()]
        for model in owned:
            stack.push_async_callback(_end, type(model).close, model)
        yield lend(Models(renderer, scorer, llms), watches)


async def _end(close: Callable[[Any], Awaitable[None]], model: object) -> None:
    await close(model)
