"""Running a grid: every missing cell is run, judged, and written down before the next begins.

Cells share one project, so that pictures, scores and answers of one run serve all others; each
cell's costs are counted as if it had been alone. A grid that is stopped, or killed, goes on where
it was: finished cells are skipped, and the run in hand is resumed from its transcript.
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
from bigpe.services.core.errors import ScoreError
from bigpe.services.core.values import digest
from bigpe.services.core.version import VERSION

CALLS_A_RENDER = 1.2
"""Language model calls a render, for a forecast before any cell has finished."""


@dataclass(frozen=True)
class Grid:
    """What is to be run."""

    experiment: Experiment
    arms: tuple[GridArm, ...]
    seeds: tuple[int, ...]
    renders: int
    """Budget of a run."""
    base: BigpeConfig
    project: Project
    cells: Path
    """The file of finished cells."""
    judging: Judging = field(default_factory=Judging)

    def plan(self) -> list[PlannedCell]:
        """All cells, a seed at a time, so that a grid cut short is even."""
        base = self.base
        if self.experiment.measure == "transfer":
            base = without_held_out(base, self.project)
        return [
            PlannedCell.of(self, arm, arm_config(base, arm, seed=seed, renders=self.renders), seed)
            for seed in self.seeds
            for arm in self.arms
        ]

    def missing(self) -> list[PlannedCell]:
        """Cells that are not in the file yet."""
        done = {cell.key for cell in read_cells(self.cells)}
        return [planned for planned in self.plan() if planned.key not in done]


class PlannedCell(NamedTuple):
    """A cell before it is run."""

    arm: GridArm
    config: BigpeConfig
    seed: int
    digest: str
    """Of everything but the seed that its result depends on."""
    run: str
    """The run's name: equal configurations share one run, whichever experiment asks."""

    @classmethod
    def of(cls, grid: Grid, arm: GridArm, config: BigpeConfig, seed: int) -> PlannedCell:
        """The cell of an arm and a seed."""
        # Defaults are left out: a setting that a later version adds makes no new cells.
        whole = config.model_dump(mode="json", exclude_defaults=True)
        same = {**whole, "run": {**whole.get("run", {}), "seed": None}}
        identity = {
            "config": same,
            "measure": grid.experiment.measure,
            "judging": grid.judging.told(grid.experiment.measure),
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
    """What a grid will take."""

    cells: int
    missing: int
    renders: int
    """Of the missing cells, judging included, if nothing is in the memo."""
    hours: float | None
    """The same, one call after the other; None while no call has been measured."""


class ExperimentProgress(NamedTuple):
    """A finished cell, and how far the grid is."""

    cell: ExperimentCell
    number: int
    of: int
    wall_s: float


def forecast(grid: Grid, watches: Stopwatches) -> ExperimentForecast:
    """What the missing cells take at most; equal calls of different cells are paid only once."""
    planned, missing = grid.plan(), grid.missing()
    done = read_cells(grid.cells)
    renders = sum(cell.renders for cell in done)
    a_render = sum(cell.llm_calls for cell in done) / renders if renders else CALLS_A_RENDER
    conditions = {"baselines": 4, "transfer": 4}.get(grid.experiment.measure, 1)
    judged = grid.judging.test_prompts * (1 + conditions)
    budgets = [planned.config.budget.renders or grid.renders for planned in missing]
    total = sum(budgets) + judged * len(missing)
    seconds = watches.cost(total, total, a_render * total)
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
    """Run and write down every missing cell; returns those that were run.

    After `max_minutes` (0: no limit) the cell in hand is finished and no other begun. `stop`: when
    set, what is in flight is finished and stored, and the cell in hand goes on at the next call.
    ScoreError when no round of a run gave a result.
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
    """The cell; None when `stop` came first."""
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
    """The git commit of the code, with "+" when it was changed since; empty outside of git."""
    try:
        told = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=10"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()
