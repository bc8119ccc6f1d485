"""Probes all models of a project, and forecasts its run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.prices import PriceTable, price_table
from bigpe.runtime.project.seed_files import seeds_for
from bigpe.runtime.run.plan import naive_set
from bigpe.runtime.run.probe.forecast import RunForecast, run_forecast
from bigpe.runtime.run.probe.fresh_calls import FreshCalls
from bigpe.runtime.run.probe.language_model import Task, planned_calls, probe_llm
from bigpe.runtime.run.probe.pictures import PICTURES, SCORES, probe_pictures
from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow, fault
from bigpe.runtime.run.services import Services, open_services
from bigpe.services.core.errors import BigpeError, ConfigError
from bigpe.services.core.outages.watch import NO_WAITING, OutageWatch
from bigpe.services.processes.batch_queue import parallelism_of
from bigpe.services.render.service import Renderer
from bigpe.services.score.service import Scorer
from bigpe.services.store.database import Store

NAME = "probe"
"""The name of the probe's log files, in place of a run's."""


@dataclass(frozen=True)
class ProbePlan:
    """What a probe will ask for."""

    config: BigpeConfig
    project: Project
    tasks: tuple[Task, ...]
    prompts: tuple[str, str]
    """Two train prompts."""
    train: int
    """Number of train prompts."""
    prices: PriceTable

    @property
    def text(self) -> str:
        """What it will ask for, and that it may cost money."""
        models = ", ".join(dict.fromkeys(task.part for task in self.tasks))
        costs = [f"{row.model} costs {row.text}" for row in self.prices.rows if row.costs]
        costs += [
            f"{row.model} may cost money, no price of it is known" for row in self.prices.missing
        ]
        money = "; ".join(dict.fromkeys(costs)) or "all models run on this machine"
        return (
            f"the probe makes about {planned_calls(self.tasks)} language model calls ({models}), "
            f"{PICTURES} pictures and {SCORES} scores; {money}"
        )

    def task(self, role: str) -> Task:
        """The task of the model that serves `role`."""
        return next(task for task in self.tasks if role in task.roles)


def plan_probe(config: BigpeConfig, project: Project) -> ProbePlan:
    """Read the project's prompts and instructions. ConfigError if they cannot be used."""
    train = naive_set(config, project.folder).of("train")
    if len(train) < 2:
        raise ConfigError("[data] naive: a run needs two train prompts or more; add prompts")
    instruction = seeds_for(config, project.folder)[0].instruction
    served: dict[str, list[str]] = {}
    for role in config.roles_with_llm:
        served.setdefault(config.llm_for(role).model_dump_json(), []).append(role)
    prices = price_table(config)
    tasks = [
        Task(
            part=_part(prices.llm_row(roles[0]).model, roles, alone=len(served) == 1),
            roles=tuple(roles),
            instruction=instruction,
            naive=train[0],
            constraints=config.constraints,
            seed=config.run.seed,
        )
        for roles in served.values()
    ]
    prompts = (train[0], train[1])
    return ProbePlan(config, project, tuple(tasks), prompts, len(train), prices)


def _part(model: str, roles: Sequence[str], *, alone: bool) -> str:
    return model if alone else f"{model} ({', '.join(roles)})"


@dataclass(frozen=True)
class Probed:
    """The outcome of a probe."""

    report: ProbeReport
    forecast: RunForecast | None
    """None if no service could be opened."""
    calls: dict[str, int]
    """Calls made, by kind."""
    prices: PriceTable

    def as_json(self) -> dict[str, Any]:
        """The outcome as JSON."""
        return {
            "rows": [row.model_dump(mode="json") for row in self.report.rows],
            "forecast": self.forecast.model_dump(mode="json") if self.forecast else None,
            "calls": self.calls,
            "prices": [row.as_json() for row in self.prices.rows],
        }


async def probe(
    plan: ProbePlan,
    listen: Callable[[ProbeRow], None],
    *,
    renderer: Renderer | None = None,
    scorer: Scorer | None = None,
) -> Probed:
    """Make the calls, with each model beside the others. A failed call is a row, no exception.

    Args:
        plan: What to ask for.
        listen: Gets each row when it is found.
        renderer: Replaces the renderer of the configuration.
        scorer: Replaces the scorer.
    """
    report = ProbeReport(listen)
    forecast: RunForecast | None = None
    async with Store(plan.project.database, sealed=True) as store:
        effects = FreshCalls(store)
        try:
            async with open_services(
                plan.config, plan.project, effects, effects,
                run=NAME, renderer=renderer, scorer=scorer, watch=OutageWatch(NO_WAITING),
            ) as services:  # fmt: skip
                await _ask_all(plan, services, report)
                parallel = parallelism_of(services.render.backend)
                forecast = run_forecast(
                    plan.config, plan.train, report.measured, plan.prices, parallel
                )
        except BigpeError as error:
            report.add(fault("bigpe.toml", "opens", error))
        finally:
            await effects.close()
    return Probed(report, forecast, dict(effects.paid), plan.prices)


async def _ask_all(plan: ProbePlan, services: Services, report: ProbeReport) -> None:
    async def ask(task: Task) -> None:
        try:
            llm = services.llm(task.roles[0])
        except BigpeError as error:
            report.add(fault(task.part, "answers", error))
            return
        await probe_llm(llm, task, services.blobs, report)

    config = plan.config
    renderer = f"{plan.prices.row('render').model} renderer ({config.render.backend})"
    scorer = f"{plan.prices.row('score').model} scorer ({config.score.backend})"
    await asyncio.gather(
        *(ask(task) for task in plan.tasks),
        probe_pictures(services, renderer, scorer, plan.prompts, report),
    )
