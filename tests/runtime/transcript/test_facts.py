"""What a reader of a run sees is what the run itself knows."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bigpe.agents.messages import ImageScored, PlanChanged, RunStarted, parse_message
from bigpe.agents.usage import Limits, Prices
from bigpe.runtime import facts, run_reader
from bigpe.runtime.health import findings_of
from bigpe.runtime.history import replayed_campaign
from bigpe.runtime.run_reader import RunReader
from bigpe.services.store import Store
from bigpe.testing.runs import CONFIG, run_fake

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
    monkeypatch.setattr(run_reader, "STRETCH", stretch)
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
    assert found.used == campaign.used
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
    monkeypatch.setattr(run_reader, "STRETCH", 50)
    async with Store(project / "bigpe.db", read_only=True) as store:
        reader = RunReader(store, "main")
        shares = [0.0]
        while shares[-1] < 1:
            await reader.catch_up(1e-9)
            assert reader.behind == (reader.share < 1)
            shares.append(reader.share)
    assert shares == sorted(shares)
    assert len(reader.facts.rounds) == 10


async def test_diagnostics_are_those_of_status_whatever_the_stretch(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half of the rewrites cut off, which only the scores tell."""
    monkeypatch.setattr(run_reader, "STRETCH", 50)
    shutil.copytree(project, tmp_path / "p")
    async with Store(tmp_path / "p" / "bigpe.db") as store:
        rows = await store.rows("facts", run="main", type="ImageScored", after=0, upto=10**9)
        cut = [m for row in rows if isinstance(m := parse_message(row["body"]), ImageScored)]
        longer = [m.model_copy(update={"truncated": 9}) for m in cut if m.purpose == "rewrite"]
        with closing(sqlite3.connect(tmp_path / "p" / "bigpe.db")) as connection, connection:
            connection.executemany(
                "UPDATE message SET body = ? WHERE mid = ?",
                [(m.model_dump_json(), m.mid) for m in longer[::2]],
            )
        reader = RunReader(store, "main")
        await reader.catch_up()
        told = await findings_of(store, "main")
    assert "truncation" in [finding.fault for finding in told]
    assert reader.findings() == told


async def test_what_people_changed_of_the_plan_is_known(project: Path) -> None:
    async with Store(project / "bigpe.db", read_only=True) as store:
        rows = await store.rows("facts", run="main", type="RunStarted", after=0, upto=10**9)
    start = parse_message(rows[0]["body"])
    assert isinstance(start, RunStarted)
    limits, prices = Limits(usd=3.0), Prices(render=0.25)
    changed = PlanChanged.make(
        start, rounds=99, concurrency=1, patience=4, limits=limits, prices=prices
    )
    found = facts.RunFacts()
    found.apply(1, 0.0, start)
    found.apply(2, 0.0, changed)
    update = {"rounds": 99, "concurrency": 1, "patience": 4, "limits": limits, "prices": prices}
    assert found.plan == start.plan.model_copy(update=update)
