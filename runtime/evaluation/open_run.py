"""Opens a stored run for evaluation, with services that may score held-out prompts.

It writes no messages of the run, so another process can run it meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from autogen_core.models import ChatCompletionClient

from bigpe.agents.campaign.campaign import Campaign
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.plan import naive_set
from bigpe.runtime.run.resume.stored_run import find_stored_run
from bigpe.runtime.run.services import Services, open_services
from bigpe.runtime.transcript.replay import replayed_campaign, require_usable
from bigpe.services.core.errors import ConfigError
from bigpe.services.prompt_data.splits import Split
from bigpe.services.render.service import Renderer
from bigpe.services.score.service import Scorer
from bigpe.services.store.answer_memory import AnswerMemory
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.services.store.held_out import SplitCallCache


@dataclass(frozen=True)
class EvaluatedRun:
    """An opened run with its services and its present campaign."""

    name: str
    config: BigpeConfig
    project: Project
    store: Store
    services: Services
    campaign: Campaign

    def prompts(self, split: Split) -> tuple[str, ...]:
        """The naive prompts of a split: train prompts of the run, or held-out prompts of the file.

        ConfigError if the file has none, or if the run has used one as a train prompt.
        """
        train = self.campaign.plan.train
        if split == "train":
            return train
        found = naive_set(self.config, self.project.folder).of(split)
        if not found:
            raise ConfigError(f"the {split} split is empty: add naive prompts")
        if seen := set(train) & set(found):
            raise ConfigError(
                f"{len(seen)} prompts of the {split} split are among those that run {self.name!r} "
                f"learned from (for example {min(seen)!r}): [data] naive has changed since; "
                "restore the file, or start another run"
            )
        return found


@asynccontextmanager
async def open_run_for_evaluation(
    name: str,
    *,
    project: Path | str = ".",
    fresh: bool = False,
    llms: Mapping[str, ChatCompletionClient] | None = None,
    renderer: Renderer | None = None,
    scorer: Scorer | None = None,
    guards: Mapping[str, Scorer] | None = None,
) -> AsyncGenerator[EvaluatedRun]:
    """Open a run for evaluation. ConfigError if it does not exist or has not begun.

    `fresh`: evaluations of the run forget the answers of language models from before.
    `llms` (by actor), `renderer`, `scorer` and `guards` (by name) replace the configured models.
    """
    place = Project(Path(project))
    place.check_run_name(name)
    async with AsyncExitStack() as stack:
        if not place.database.exists():
            raise ConfigError(f"there is no project at {place.folder}; start with `bigpe init`")
        store = await stack.enter_async_context(Store(place.database))
        stored = await find_stored_run(store, name)
        if stored is None:
            raise ConfigError(f"there is no run {name!r} here; start it with `bigpe run {name}`")
        campaign = await replayed_campaign(store, name)
        if not campaign.started:
            raise ConfigError(f"run {name!r} has not begun; continue it with `bigpe resume {name}`")
        require_usable(campaign, name)
        effects, sealed = CallCache(store), CallCache(store, sealed=True)
        for cache in (effects, sealed):
            stack.push_async_callback(cache.close)
        scores = SplitCallCache(effects, sealed, campaign.plan.train)
        services = await stack.enter_async_context(
            open_services(
                stored.config,
                place,
                effects,
                scores,
                run=f"{name}-evaluation",
                memory=await AnswerMemory.of_evaluation(store, name, fresh=fresh),
                llms=llms,
                renderer=renderer,
                scorer=scorer,
                guards=guards,
            )
        )
        yield EvaluatedRun(name, stored.config, place, store, services, campaign)
