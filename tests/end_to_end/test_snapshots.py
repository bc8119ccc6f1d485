"""Snapshots of the coordinator's state: resuming from one is resuming from the whole history."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.core import PoolChanged, parse_message
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.store.database import Store
from bigpe.testing.runs import open_fake, run_fake, transcript

EVERY = 8


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigpe.agents.actors.coordinator.SNAPSHOT_EVERY", EVERY)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    folder = tmp_path_factory.mktemp("undisturbed")
    asyncio.run(run_fake(folder))
    return folder


async def half(folder: Path) -> None:
    async with open_fake(folder) as session:
        async for message in session.run():
            if isinstance(message, PoolChanged) and message.round == 5:
                session.pause()
        assert not session.complete


async def finished(folder: Path) -> Campaign:
    async with open_fake(folder) as session:
        async for _ in session.run():
            pass
        assert session.complete
    async with Store(folder / "bigpe.db", read_only=True) as store:
        return await replayed_campaign(store, "main")


def edit(folder: Path, statement: str, *values: str) -> None:
    connection = sqlite3.connect(folder / "bigpe.db")
    with connection:
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


async def test_a_run_resumed_from_a_snapshot_ends_the_same(
    undisturbed: Path, tmp_path: Path
) -> None:
    await half(tmp_path)
    await finished(tmp_path)
    assert transcript(tmp_path) == transcript(undisturbed)


async def test_a_snapshot_says_what_the_messages_up_to_it_say(tmp_path: Path) -> None:
    await half(tmp_path)
    async with Store(tmp_path / "bigpe.db", read_only=True) as store:
        heard = await store.rows("handled_by", run="main", actor="coordinator", after=0)
    connection = sqlite3.connect(tmp_path / "bigpe.db")
    ((done, state),) = connection.execute("SELECT done, state FROM snapshot").fetchall()
    connection.close()
    assert 0 <= len(heard) - done < EVERY
    campaign = Campaign()
    for row in heard[:done]:
        campaign.apply(parse_message(row["body"]))
    assert Campaign.restore(state) == campaign


@pytest.mark.parametrize(
    "edited",
    ["SET version = 'of other code', state = '{}'", "SET state = '{\"_rounds\": 7'"],
    ids=["other code", "unreadable"],
)
async def test_a_snapshot_that_is_not_ours_is_ignored(
    undisturbed: Path, tmp_path: Path, edited: str
) -> None:
    await half(tmp_path)
    edit(tmp_path, f"UPDATE snapshot {edited}")
    campaign = await finished(tmp_path)
    assert transcript(tmp_path) == transcript(undisturbed)
    async with Store(undisturbed / "bigpe.db", read_only=True) as store:
        other = await replayed_campaign(store, "main")
    assert campaign.pool.rows() == other.pool.rows()
