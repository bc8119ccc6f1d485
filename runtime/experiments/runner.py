"""Runs a grid: each missing cell is run, measured and stored before the next cell begins.

Cells share a project and so its call cache; the costs of a cell are counted without the cache. A
grid continues after a stop or kill: finished cells are skipped, and the last run is resumed.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.plan import RULES
from bigpe.runtime.experiments.cells import ExperimentCell, append_cell, read_cells
from bigpe.runtime.experiments.grids import Experiment, GridArm, arm_config
from bigpe.runtime.experiments.measures import Judging, Measured, measured, without_held_out
from bigpe.runtime.experiments.shared_models import SharedModels, Stopwatches
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.runtime.run.style import as_automatic, style_of_config
from bigpe.services.core.errors import ScoreError
from bigpe.services.core.values import digest
from bigpe.services.core.version import VERSION

CALLS_PER_RENDER = 1.2
"""Language model calls per render, for a forecast before the first finished cell."""


@dataclass(frozen=True)
class Grid:
    """The runs of an experiment in a project, and the file of their cells."""

    experiment: Experiment
    arms: tuple[GridArm, ...]
    seeds: tuple[int, ...]
    renders: int
    """Render budget per run."""
    base: BigpeConfig
    project: Project
    cells: Path
    """The file of finished cells."""
    judging: Judging = field(default_factory=Judging)

    def plan(self) -> list[PlannedCell]:
        """All cells, seed by seed, so that an unfinished grid has equal seeds for most arms."""
        base = self.base
        if self.experiment.measure == "transfer":
            base = without_held_out(base, self.project)
        return [
            PlannedCell.of(self, arm, arm_config(base, arm, seed=seed, renders=self.renders), seed)
            for seed in self.seeds
            for arm in self.arms
        ]

    def missing(self) -> list[PlannedCell]:
        """The cells that are not in the file."""
        done = {cell.key for cell in read_cells(self.cells)}
        return [planned for planned in self.plan() if planned.key not in done]


class PlannedCell(NamedTuple):
    """A cell before it is run."""

    arm: GridArm
    config: BigpeConfig
    seed: int
    digest: str
    """Digest of all inputs of its result, except the seed."""
    run: str
    """The run's name. Equal configurations of all experiments share a run."""

    @classmethod
    def of(cls, grid: Grid, arm: GridArm, config: BigpeConfig, seed: int) -> PlannedCell:
        """The cell of an arm and a seed."""
        # Without defaults, so that a setting of a later version does not change the identity.
        usual = as_automatic(config, style_of_config(config))
        whole = usual.model_dump(mode="json", exclude_defaults=True)
        same = {**whole, "run": {**whole.get("run", {}), "seed": None}}
        identity = {
            "config": same,
            "measure": grid.experiment.measure,
            "judging": grid.judging.identity(grid.experiment.measure),
            "version": VERSION,
            "rules": RULES,
        }
        run = digest({"config": whole, "version": VERSION, "rules": RULES})
        return cls(arm, config, seed, digest(identity)[:16], f"cell-{run[:24]}")

    @property
    def key(self) -> tuple[str, int]:
        """As `ExperimentCell.key`."""
        return (self.digest, self.seed)


class ExperimentForecast(NamedTuple):
    """Cells, renders and time of a grid before it runs."""

    cells: int
    missing: int
    renders: int
    """Renders of the missing cells and their measurement, without a call cache."""
    hours: float | None
    """Model time of sequential calls; None if no call has been measured yet."""


class ExperimentProgress(NamedTuple):
    """A finished cell and the progress of the grid."""

    cell: ExperimentCell
    number: int
    of: int
    wall_s: float


def forecast(grid: Grid, watches: Stopwatches) -> ExperimentForecast:
    """An upper bound for the missing cells: equal calls of different cells are paid only once."""
    planned, missing = grid.plan(), grid.missing()
    done = read_cells(grid.cells)
    renders = sum(cell.renders for cell in done)
    llm_calls = sum(cell.llm_calls for cell in done) / renders if renders else CALLS_PER_RENDER
    conditions = {"baselines": 4, "transfer": 4}.get(grid.experiment.measure, 1)
    measuring = grid.judging.test_prompts * (1 + conditions)
    budgets = [planned.config.budget.renders or grid.renders for planned in missing]
    total = sum(budgets) + measuring * len(missing)
    seconds = watches.cost(total, total, llm_calls * total)
    hours = None if seconds is None else seconds / 3600
    return ExperimentForecast(len(planned), len(missing), total, hours)


async def run_grid(
    grid: Grid,
    models: SharedModels,
    watches: Stopwatches,
    *,
    max_minutes: float = 0.0,
    on_cell: Callable[[ExperimentProgress], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> list[ExperimentCell]:
    """Run and store each missing cell; returns the new cells. `watches` measure the models.

    After `max_minutes` (0: no limit) no further cell begins. When `stop` is set, the present run
    is paused; the next call continues it. ScoreError if no round of a run gave a result.
    """
    missing = grid.missing()
    start = time.monotonic()
    finished: list[ExperimentCell] = []
    for number, planned in enumerate(missing, start=1):
        late = max_minutes and time.monotonic() - start >= 60 * max_minutes
        if late or (stop is not None and stop.is_set()):
            break
        began = time.monotonic()
        cell = await _run_cell(grid, planned, models, watches, stop)
        watches.save()
        if cell is None:
            break
        append_cell(grid.cells, cell)
        finished.append(cell)
        on_cell(ExperimentProgress(cell, number, len(missing), time.monotonic() - began))
    return finished


async def _run_cell(
    grid: Grid,
    planned: PlannedCell,
    models: SharedModels,
    watches: Stopwatches,
    stop: asyncio.Event | None,
) -> ExperimentCell | None:
    """The cell; None if `stop` was set before its end."""
    campaign = await _run(grid, planned, models, stop)
    if campaign is None:
        return None
    if campaign.pool.best().mean is None:
        reason = campaign.stopped.reason if campaign.stopped else ""
        raise ScoreError(f"run {planned.run} of {planned.arm.label!r} gave no result: {reason}")
    kind = grid.experiment.measure
    found = await measured(
        kind, planned.run, planned.config, grid.project, models, watches, grid.judging
    )
    return _cell(grid, planned, campaign, found, watches)


async def _run(
    grid: Grid, planned: PlannedCell, models: SharedModels, stop: asyncio.Event | None
) -> Campaign | None:
    async with Session.open(
        planned.run,
        planned.config,
        project=grid.project.folder,
        llms=models.llms,
        renderer=models.renderer,
        scorer=models.scorer,
    ) as session:
        waiting = asyncio.create_task(_pause_on(stop, session)) if stop else None
        try:
            async for _ in session.run():
                pass
        finally:
            if waiting is not None:
                waiting.cancel()
        return session.coordinator.campaign if session.complete else None


async def _pause_on(stop: asyncio.Event, session: Session) -> None:
    await stop.wait()
    session.pause()


def _cell(
    grid: Grid, planned: PlannedCell, campaign: Campaign, found: Measured, watches: Stopwatches
) -> ExperimentCell:
    used = campaign.used
    return ExperimentCell(
        experiment=grid.experiment.name,
        arm=planned.arm.label,
        x=planned.arm.x,
        series=planned.arm.series,
        config=planned.digest,
        seed=planned.seed,
        run=planned.run,
        budget=planned.config.budget.renders,
        reason=campaign.stopped.reason if campaign.stopped else "",
        rounds=campaign.applied,
        renders=used.renders,
        scores=used.scores,
        llm_calls=used.llm_calls,
        tokens=used.tokens,
        seconds=watches.cost(used.renders, used.scores, used.llm_calls) or 0.0,
        instruction=campaign.pool.best().instruction.text,
        gains=found.gains,
        curves=found.curves,
        figures=found.figures,
        faults=found.faults,
        rules=RULES,
        version=VERSION,
        commit=commit_of(Path(__file__).parent),
        finished=time.time(),
    )


def commit_of(folder: Path) -> str:
    """The git commit of the code, with "+" after uncommitted changes; empty outside of git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=10"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
