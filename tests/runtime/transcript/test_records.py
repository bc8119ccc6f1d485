"""Of instructions that the coordinator has forgotten, the transcript still tells everything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from bigpe.agents.pool import Pool, PoolRow
from bigpe.runtime import records
from bigpe.runtime.history import replayed_campaign
from bigpe.services.store import Store
from bigpe.testing.runs import CONFIG, open_fake, run_fake

PAPER = {"run": {**CONFIG["run"], "rounds": 20}, "policy": {"name": "paper"}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    asyncio.run(run_fake(folder, PAPER))
    return folder


def figures(row: PoolRow) -> tuple[float | None, ...]:
    return (row.mean, row.lo, row.hi)


@pytest.mark.parametrize("stretch", [50, 20_000])
async def test_all_rows_are_those_of_a_pool_that_forgets_nothing(
    project: Path, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigpe.runtime.run_reader.PAGE", stretch)
    async with Store(project / "bigpe.db", read_only=True) as store:
        campaign = await replayed_campaign(store, "main")
        told = await records.all_rows(store, "main", campaign.pool)
        monkeypatch.setattr("bigpe.runtime.history.fold_version", lambda: "refold it all")
        with patch.object(Pool, "_forget"):
            whole = (await replayed_campaign(store, "main")).pool.rows()
    assert len(told) > len(campaign.pool.rows()), "some were forgotten"
    for row, wanted in zip(told, whole, strict=True):
        assert figures(row) == pytest.approx(figures(wanted))
        assert row._replace(mean=None, lo=None, hi=None) == wanted._replace(
            mean=None, lo=None, hi=None
        )


async def test_a_session_tells_all_of_its_instructions(project: Path) -> None:
    async with open_fake(project, PAPER) as session:
        rows = await session.instructions()
        remembered = session.pool.rows()
    assert [row for row in rows if row in remembered] == remembered
    assert len(rows) > len(remembered)
