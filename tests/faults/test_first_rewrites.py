"""Runs whose language model gives nothing usable: they stop early, say why, and begin again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer, Reply, fails, says
from support.llm_services import config_for

from bigpe.agents.messages.core import ImageScored, PoolChanged, RunStopped
from bigpe.runtime.evaluation.measure import measure, under
from bigpe.runtime.sharing.best import best_instruction
from bigpe.services.core.errors import AlarmError, ConfigError
from bigpe.services.llm.config import load_client
from bigpe.services.store.database import Store
from bigpe.testing.runs import messages_of, open_fake, open_fake_evaluated, run_fake, transcript

SIZE: dict[str, Any] = {
    "rounds": 6, "batch_size": 3, "pilot_prompts": 2, "concurrency": 1, "seed": 4,
    "outage_minutes": 0,
}  # fmt: skip


def config_of(server: FakeServer, **run: Any) -> dict[str, Any]:
    return {"run": SIZE | run, "llm": {"default": config_for(server.url).model_dump()}}


async def run(folder: Path, server: FakeServer, **run: Any) -> Any:
    """Run to the end; the campaign."""
    client = load_client(config_for(server.url))
    async with open_fake(folder, config_of(server, **run), llm=client) as session:
        async for _ in session.run():
            pass
        return session.coordinator.campaign


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (says(""), "no text"),
        (says("I'm sorry, but I cannot help with that."), "refused"),
        (fails(400, "unknown parameter"), "unknown parameter"),
    ],
)
async def test_first_rewrites_without_use_stop_the_run(
    server: FakeServer, tmp_path: Path, reply: Reply, cause: str
) -> None:
    server.replies = [reply]
    campaign = await run(tmp_path, server)
    [stopped] = messages_of(tmp_path, RunStopped)
    assert cause in stopped.reason and "6 of the first 6 rewrites" in stopped.reason
    assert campaign.answers.alarmed and campaign.applied == 2
    async with Store(tmp_path / "bigpe.db") as store:
        with pytest.raises(ConfigError, match="no usable result"):
            await best_instruction(store, "main")
    with pytest.raises(ConfigError, match="no usable result"):
        async with open_fake_evaluated(tmp_path):
            pass


async def test_a_run_without_a_result_begins_again_with_a_mended_configuration(
    server: FakeServer, tmp_path: Path
) -> None:
    server.replies = [fails(400, "unknown parameter")]
    await run(tmp_path / "p", server)
    server.replies = [server.answers_well]
    again = await run(tmp_path / "p", server, batch_size=4, rounds=2)
    assert again.applied == 2 and not again.answers.empty
    await run(tmp_path / "whole", server, batch_size=4, rounds=2)
    assert transcript(tmp_path / "p") == transcript(tmp_path / "whole")
    # Now it has results, so a change needs a fork.
    with pytest.raises(ConfigError, match="fork"):
        await run(tmp_path / "p", server, batch_size=5, rounds=2)


async def test_shares_are_counted_over_all_rounds(server: FakeServer, tmp_path: Path) -> None:
    server.replies = [server.answers_well]
    await run(tmp_path, server, rounds=3)
    counts = messages_of(tmp_path, PoolChanged)[-1].answers
    scored = [m for m in messages_of(tmp_path, ImageScored) if m.purpose == "rewrite"]
    assert (counts.rewrites, counts.fallbacks, counts.scored) == (9, 0, len(scored))
    assert counts.gradients == counts.proposal_rounds > 0


async def test_an_evaluation_stops_at_its_first_rewrites(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    server = FakeServer()
    server.replies = [says("")]
    try:
        wanted = load_client(config_for(server.url))
        async with open_fake_evaluated(tmp_path, llm=wanted) as opened:
            treatment = under(opened.campaign.pool.best().instruction, "best")
            prompts = opened.prompts("test")[:12]
            assert len(prompts) >= 6
            with pytest.raises(AlarmError, match="6 of the first 6"):
                await measure(opened.services, treatment, prompts)
        # The server is mended: the unusable answers are not given again.
        server.replies = [server.answers_well]
        mended = load_client(config_for(server.url))
        async with open_fake_evaluated(tmp_path, llm=mended) as opened:
            rows = await measure(opened.services, treatment, prompts)
        assert len(rows) == len(prompts) and all(row.fallback is None for row in rows)
    finally:
        server.close()
