"""What a reader of a run sees is what the run itself knows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.runs import CONFIG, run_fake

from bigpe.runtime import facts
from bigpe.runtime.facts import RunReader
from bigpe.runtime.history import replayed_campaign
from bigpe.services.store import Store

PAPER = {**CONFIG, "policy": {"name": "paper"}}


@pytest.fixture(scope="module", params=[CONFIG, PAPER], ids=["ucb1", "paper"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    asyncio.run(run_fake(folder, request.param))
    return folder


@pytest.mark.parametrize("stretch", [1, 50, 20_000])
async def test_the_fold_agrees_with_the_campaign(
    project: Path, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "STRETCH", stretch)
    async with Store(project / "bigpe.db", read_only=True) as store:
        campaign = await replayed_campaign(store, "main")
        reader = RunReader(store, "main")
        await reader.catch_up()
    found = reader.facts
    prior = found.pooled_variance()
    for row in campaign.pool.rows():
        arm = found.arms[row.instruction.id]
        gain = found.interval(arm, prior)
        assert (arm.pulls, len(arm.gains), arm.parent) == (row.pulls, row.gains, row.parent)
        assert arm.born_round == row.born_round
        assert (f"{arm.state}: {arm.reason}" if arm.reason else arm.state) == row.state
        told = (gain.mean, gain.lo, gain.hi) if gain else (None, None, None)
        assert told == pytest.approx((row.mean, row.lo, row.hi))
    assert found.best == campaign.pool.best().instruction.id
    assert found.curve[-1].gain.lo == pytest.approx(campaign.pool.best().lo)
    assert found.sigma == campaign.sigma
    assert len(found.rounds) == campaign.applied
    assert found.stopped == campaign.stopped
    assert not found.in_flight() and not reader.behind


async def test_the_policy_bounds_are_those_that_it_chose_by(project: Path) -> None:
    async with Store(project / "bigpe.db", read_only=True) as store:
        campaign = await replayed_campaign(store, "main")
        reader = RunReader(store, "main")
        await reader.catch_up()
    living = [instruction.id for instruction in campaign.pool.living()]
    bounds = reader.facts.upper_bounds()
    assert sorted(bounds) == sorted(living)
    assert all(bound > 0 for bound in bounds.values())


async def test_a_reader_with_little_time_goes_on_later(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "STRETCH", 50)
    async with Store(project / "bigpe.db", read_only=True) as store:
        reader = RunReader(store, "main")
        shares = [0.0]
        while shares[-1] < 1:
            await reader.catch_up(1e-9)
            assert reader.behind == (reader.share < 1)
            shares.append(reader.share)
    assert shares == sorted(shares)
    assert len(reader.facts.rounds) == 10
