"""What a reader of a run sees is what the run itself knows."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bigpe.agents.messages.core import (
    ImageScored,
    PlanChanged,
    PoolChanged,
    RunStarted,
    parse_message,
)
from bigpe.agents.messages.usage import Limits, Prices
from bigpe.runtime.transcript import reader as run_reader
from bigpe.runtime.transcript import summary as facts
from bigpe.runtime.transcript.health import findings_of
from bigpe.runtime.transcript.reader import RunReader, first_message, last_message, messages
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.store.database import Store
from bigpe.services.store.paging import page
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
        assert (arm.finished_pulls, arm.count, arm.parent) == (row.pulls, row.gains, row.parent)
        assert arm.born_round == row.born_round
        assert (f"{arm.state}: {arm.reason}" if arm.reason else arm.state) == row.state
        result = (gain.mean, gain.lo, gain.hi) if gain else (None, None, None)
        assert result == pytest.approx((row.mean, row.lo, row.hi))
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
        cut = [message async for _, _, message in messages(store, "main", ImageScored)]
        longer = [m.model_copy(update={"truncated": 9}) for m in cut if m.purpose == "rewrite"]
        with closing(sqlite3.connect(tmp_path / "p" / "bigpe.db")) as connection, connection:
            connection.executemany(
                "UPDATE message SET body = ? WHERE mid = ?",
                [(m.model_dump_json(), m.mid) for m in longer[::2]],
            )
        reader = RunReader(store, "main")
        await reader.catch_up()
        result = await findings_of(store, "main")
    assert "truncation" in [finding.fault for finding in result]
    assert reader.findings() == result


async def test_what_people_changed_of_the_plan_is_known(project: Path) -> None:
    async with Store(project / "bigpe.db", read_only=True) as store:
        start = await first_message(store, "main", RunStarted)
    assert start is not None
    limits, prices = Limits(usd=3.0), Prices(render=0.25)
    changed = PlanChanged.make(
        start, rounds=99, concurrency=1, patience=4, limits=limits, prices=prices
    )
    found = facts.RunSummary()
    found.apply(1, 0.0, start)
    found.apply(2, 0.0, changed)
    update = {"rounds": 99, "concurrency": 1, "patience": 4, "limits": limits, "prices": prices}
    assert found.plan == start.plan.model_copy(update=update)


@pytest.mark.parametrize("size", [1, 3, 500])
async def test_messages_are_read_by_kind_in_order_whatever_the_page(
    project: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(run_reader, "PAGE", size)
    kinds = (ImageScored, PoolChanged, RunStarted)
    async with Store(project / "bigpe.db", read_only=True) as store:
        rows = await page(store, "main", limit=10**6)
        stored = [(row["seq"], parse_message(row["body"])) for row in rows]
        wanted = [(seq, message) for seq, message in stored if isinstance(message, kinds)]
        for after, upto in ((0, None), (20, 300), (300, 20)):
            last = 10**9 if upto is None else upto
            read = messages(store, "main", *kinds, after=after, upto=upto)
            assert [(seq, message) async for seq, _, message in read] == [
                (seq, message) for seq, message in wanted if after < seq <= last
            ]
        changes = [pair for pair in wanted if isinstance(pair[1], PoolChanged)]
        (first, change), (second, _) = changes[:2]
        assert await last_message(store, "main", PoolChanged) == changes[-1][1]
        assert await last_message(store, "main", PoolChanged, second - 1) == change
        assert await last_message(store, "main", PoolChanged, first - 1) is None
        assert await first_message(store, "main", PlanChanged) is None
