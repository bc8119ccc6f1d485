"""Grids on the fakes: cells are run once, written at once, resumed, and counted as if alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bigpe.agents.messages.core import ArmPulled
from bigpe.runtime.experiments.cells import POOL_DIVERSITY, ExperimentCell, read_cells
from bigpe.runtime.experiments.grids import EXPERIMENTS, GridArm, arm_config, chosen_arms
from bigpe.runtime.experiments.measures import Judging, claims_of_runs
from bigpe.runtime.experiments.report.tables import BEST
from bigpe.runtime.experiments.runner import Grid, forecast, run_grid
from bigpe.runtime.experiments.shared_models import SharedModels, Stopwatches, share_models
from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import messages_of

BASE: dict[str, Any] = {"run": {"batch_size": 3, "concurrency": 2, "pilot_prompts": 2}}


def watches(folder: Path) -> Stopwatches:
    return Stopwatches(folder / "experiments" / "seconds.json")


def models(folder: Path, watch: Stopwatches) -> SharedModels:
    blobs = BlobStore(Project(folder).images)
    log = folder / "calls.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    fakes = SharedModels(
        FakeRenderer(blobs, log=log), FakeScorer(blobs), {"default": FakeLlm(log=log)}
    )
    return share_models(fakes, watch)


def grid(folder: Path, name: str, *labels: str, seeds: int = 2, **rest: Any) -> Grid:
    experiment = EXPERIMENTS[name]
    return Grid(
        experiment=experiment,
        arms=chosen_arms(experiment, labels),
        seeds=tuple(range(seeds)),
        renders=rest.pop("renders", 30),
        base=check_config(BASE, where="test"),
        project=Project(folder),
        cells=folder / "cells" / f"{name}.jsonl",
        judging=Judging(test_prompts=4, **rest),
    )


async def go(wanted: Grid, **kwargs: Any) -> list[ExperimentCell]:
    watch = watches(wanted.project.folder)
    return await run_grid(wanted, models(wanted.project.folder, watch), watch, **kwargs)


def calls(folder: Path) -> list[Any]:
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def same(cells: list[ExperimentCell]) -> list[dict[str, Any]]:
    """What must be equal, however often and in whatever pieces a grid was run."""
    return [cell.model_dump(exclude={"finished", "seconds", "commit"}) for cell in cells]


async def test_finished_cells_are_written_at_once_and_never_run_again(tmp_path: Path) -> None:
    wanted = grid(tmp_path, "policies", "ucb1", "greedy")
    seen: list[int] = []
    ran = await go(wanted, on_cell=lambda _: seen.append(len(read_cells(wanted.cells))))
    assert seen == [1, 2, 3, 4]
    assert [(cell.seed, cell.arm) for cell in ran] == [
        (0, "ucb1"),
        (0, "greedy"),
        (1, "ucb1"),
        (1, "greedy"),
    ]
    paid = len(calls(tmp_path))
    assert await go(wanted) == []
    assert len(calls(tmp_path)) == paid
    for cell in ran:
        assert 0 < cell.renders <= 30
        assert len(cell.gains[BEST]) == 4
        assert cell.curves[POOL_DIVERSITY]
        assert cell.tokens > 0


async def test_a_wider_grid_runs_only_what_is_new(tmp_path: Path) -> None:
    await go(grid(tmp_path, "policies", "ucb1", seeds=1))
    ran = await go(grid(tmp_path, "policies", "ucb1", "greedy", seeds=2))
    assert [(cell.seed, cell.arm) for cell in ran] == [(0, "greedy"), (1, "ucb1"), (1, "greedy")]


async def test_equal_runs_are_shared_between_experiments_but_counted_alike(tmp_path: Path) -> None:
    first = await go(grid(tmp_path, "modifier-db", "with professional prompts", seeds=1))
    paid = len(calls(tmp_path))
    # ucb1 with professional prompts is what the project's configuration says anyway.
    second = await go(grid(tmp_path, "policies", "ucb1", seeds=1))
    assert len(calls(tmp_path)) == paid
    assert first[0].run == second[0].run
    assert first[0].gains == second[0].gains
    assert first[0].renders == second[0].renders > 0


async def test_stopped_in_the_middle_of_a_run_it_resumes_to_the_same_cells(tmp_path: Path) -> None:
    whole = await go(grid(tmp_path / "a", "policies", "ucb1", seeds=2))
    wanted = grid(tmp_path / "b", "policies", "ucb1", seeds=2)
    stop = asyncio.Event()

    class Stopping(FakeRenderer):
        async def render(self, requests: Any) -> Any:
            if len(calls(tmp_path / "b")) > 40:
                stop.set()
            return await super().render(requests)

    watch = watches(tmp_path / "b")
    blobs = BlobStore(Project(tmp_path / "b").images)
    log = tmp_path / "b" / "calls.jsonl"
    stopping = SharedModels(
        Stopping(blobs, log=log), FakeScorer(blobs), {"default": FakeLlm(log=log)}
    )
    lent = share_models(stopping, watch)
    ran = await run_grid(wanted, lent, watch, stop=stop)
    assert stop.is_set() and len(ran) < 2
    ran += await go(wanted)
    assert same(ran) == same(whole)
    assert same(read_cells(wanted.cells)) == same(whole)


async def test_after_its_minutes_a_grid_finishes_the_cell_in_hand(tmp_path: Path) -> None:
    wanted = grid(tmp_path, "policies", "ucb1", "greedy", seeds=2)
    ran = await go(wanted, max_minutes=1e-9)
    assert ran == []
    await go(wanted)
    assert wanted.missing() == []


async def test_a_forecast_knows_what_calls_took(tmp_path: Path) -> None:
    wanted = grid(tmp_path, "policies", "ucb1", "greedy", "random", "thompson", seeds=3)
    unknown = forecast(wanted, watches(tmp_path))
    assert (unknown.cells, unknown.missing, unknown.hours) == (12, 12, None)
    await go(grid(tmp_path, "policies", "ucb1", seeds=1))
    expected = forecast(wanted, watches(tmp_path))
    assert (expected.cells, expected.missing) == (12, 11)
    assert expected.renders == 11 * (30 + 4 * 2)
    assert expected.hours is not None and 0 < expected.hours < 1


async def test_baselines_are_measured_on_the_same_prompts(tmp_path: Path) -> None:
    [cell] = await go(grid(tmp_path, "baselines", seeds=1))
    assert set(cell.gains) == {
        "LLM without instruction",
        "seed instruction",
        "professional prompts",
        BEST,
    }
    assert set(cell.gains["seed instruction"]) == set(cell.gains[BEST])


async def test_gradients_are_held_against_known_effects(tmp_path: Path) -> None:
    truth = {"golden look": 1.0, "crisp look": 1.0, "murky look": -1.0}
    [cell] = await go(grid(tmp_path, "gradient-validity", seeds=1, truth=truth, renders=60))
    assert cell.figures["evidence rows judged"]
    claims = await claims_of_runs(Project(tmp_path), [cell.run])
    pulls = messages_of(tmp_path, ArmPulled)
    assert len(pulls) == cell.rounds and any(claim.rows for claim in claims)
    assert [claim.round for claim in claims] == [
        pull.round for pull in pulls if pull.wants_gradient
    ]
    [plain] = await go(grid(tmp_path, "gradient-validity", seeds=1, renders=60))
    assert plain.figures == {} and plain.run == cell.run


async def test_transfer_learns_from_no_held_out_subject(tmp_path: Path) -> None:
    from bigpe.prompts.library import naive_prompts

    wanted = grid(tmp_path, "transfer", seeds=1, everything=naive_prompts("world"))
    [cell] = await go(wanted)
    assert {"same subjects", "new subjects", "other prompt types"} <= set(cell.gains)
    assert not set(cell.gains["new subjects"]) & set(cell.gains["same subjects"])


def test_every_grid_makes_valid_configurations() -> None:
    for experiment in EXPERIMENTS.values():
        labels = experiment.labels
        assert len(set(labels)) == len(labels)
        for arm in experiment.arms:
            made = arm_config(BigpeConfig(), arm, seed=3, renders=200)
            assert made.run.seed == 3
            assert made.budget.renders in (50, 100, 200, 400)
    assert len(EXPERIMENTS["batch-size"].arms) == 24


def test_a_mistaken_arm_is_named() -> None:
    with pytest.raises(ConfigError, match="it has: ucb1"):
        chosen_arms(EXPERIMENTS["policies"], ("ucb2",))
    with pytest.raises(ConfigError, match="policy"):
        arm_config(
            BigpeConfig(), GridArm(label="x", changes={"policy.name": "no"}), seed=0, renders=9
        )
