"""A run's history as diagnostics see it, in `bigpe status`, live, and plans from it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from autogen_core.models import LLMMessage
from click.testing import CliRunner, Result
from rich.console import Console

from bigpe.agents.diagnostics.faults import diagnose
from bigpe.agents.diagnostics.round_history import RoundHistory
from bigpe.agents.messages.core import parse_message
from bigpe.runtime.cli import cli
from bigpe.runtime.cli.common import reading
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.monitoring.progress import RunView
from bigpe.runtime.transcript.health import findings_of, history_of
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.paging import page
from bigpe.testing.fake_images import AnyPrompt
from bigpe.testing.fakes import FakeLlm, FakeRenderer, rng_of
from bigpe.testing.runs import CONFIG, open_fake, run_fake


class Rambling(FakeLlm):
    """Changes few prompts: if it changed none, the run would stop."""

    def _rewrite(self, messages: Sequence[LLMMessage], extra: Mapping[str, Any]) -> str:
        naive = str(messages[-1].content).strip()
        kept = rng_of("rambling", naive, extra.get("seed")).random() < 0.2
        return f"{naive}, golden hour" if kept else naive


async def bigpe(*words: str) -> Result:
    """The command line, which runs a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli, list(words))


def config(rounds: int) -> dict[str, object]:
    return {"run": {**CONFIG["run"], "rounds": rounds}}


async def test_the_history_of_a_run_is_that_of_its_rounds(tmp_path: Path) -> None:
    async with open_fake(tmp_path, config(8)) as session:
        async for _ in session.run():
            pass
        campaign = session.coordinator.campaign
    async with reading(tmp_path) as store:
        facts = (await history_of(store, "main")).facts
    assert [fact.round for fact in facts] == list(range(1, campaign.applied + 1))
    pairs = [pair for pair in campaign.pairs if pair.arm != "professional"]
    assert [gain for fact in facts for gain in fact.gains] == [pair.gain for pair in pairs]
    best = 0
    for fact in facts:
        best = best if fact.stale else fact.round
        assert fact.stale == fact.round - best
    assert best, "the bound rose once at least"
    assert all(fact.diversity is not None and 0 <= fact.diversity <= 1 for fact in facts)
    assert any(fact.novelty is not None for fact in facts)


@pytest.mark.parametrize("window", [1, 3, 9, 30])
async def test_the_newest_rounds_are_told_from_their_own_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """Whatever was said before them: as by a fold of the whole transcript."""
    await run_fake(tmp_path, {**config(14), "policy": {"name": "paper"}}, llm=Rambling())
    monkeypatch.setattr("bigpe.agents.diagnostics.round_history.WINDOW", window)
    monkeypatch.setattr("bigpe.runtime.transcript.health.WINDOW", window)
    monkeypatch.setattr("bigpe.runtime.transcript.health.MOST_IN_FLIGHT", 2)
    async with reading(tmp_path) as store:
        whole = RoundHistory(
            parse_message(row["body"]) for row in await page(store, "main", limit=9999)
        )
        read = await history_of(store, "main")
    assert read.facts == whole.facts
    assert [fact.round for fact in read.facts] == [*range(1, 15)][-window:]


async def test_live_and_stored_histories_are_equal_also_after_a_pause(tmp_path: Path) -> None:
    output = io.StringIO()
    views: list[RunView] = []
    for stop_after in (3, 99):
        async with open_fake(tmp_path, config(8)) as session:
            async with reading(tmp_path) as store:
                past = asyncio.create_task(history_of(store, "main"))
                await past
            with RunView(session, Console(file=output), past) as view:
                async for message in session.run():
                    view.show(message)
                    if message.kind == "PoolChanged" and message.round == stop_after:
                        session.pause()
        views.append(view)
    async with reading(tmp_path) as store:
        stored = (await history_of(store, "main")).facts
    displayed = views[-1]._history
    assert displayed is not None and len(stored) == 8 and displayed.facts == stored


async def test_a_resumed_view_waits_for_no_history_and_tells_no_old_fault_anew(
    tmp_path: Path,
) -> None:
    output = [io.StringIO(), io.StringIO()]
    arrived: asyncio.Future[RoundHistory] = asyncio.get_running_loop().create_future()

    async def later() -> RoundHistory:
        return await arrived

    past = None
    for out, stop_after in zip(output, (9, 99), strict=True):
        async with open_fake(tmp_path, config(14), llm=Rambling()) as session:
            async with reading(tmp_path) as store:
                history = await history_of(store, "main")
            with RunView(session, Console(file=out, width=200), past) as view:
                async for message in session.run():
                    view.show(message)
                    if message.kind == "PoolChanged" and message.round == stop_after:
                        session.pause()
                    if past and message.kind == "PoolChanged" and message.round == 12:
                        assert view._history is None
                        arrived.set_result(history)
                        await past
        past = asyncio.create_task(later())
    await past  # pyright: ignore[reportGeneralTypeIssues]
    assert "look: failures since round" in output[0].getvalue()
    assert "round  14" in output[1].getvalue() and "look: failures" not in output[1].getvalue()
    async with reading(tmp_path) as store:
        stored = (await history_of(store, "main")).facts
    assert view._history is not None and view._history.facts == stored


async def test_trouble_is_told_live_and_by_status(tmp_path: Path) -> None:
    output = io.StringIO()
    async with open_fake(tmp_path, config(10), llm=Rambling()) as session:
        with RunView(session, Console(file=output, width=200), None) as view:
            async for message in session.run():
                view.show(message)
    assert "look: failures since round" in output.getvalue()
    assert output.getvalue().count("look: failures") == 1
    async with reading(tmp_path) as store:
        found = await findings_of(store, "main")
    assert [finding.fault for finding in found] == ["failures"]
    assert "changed nothing" in found[0].evidence
    displayed = await bigpe("status", "-p", str(tmp_path))
    assert "main: failures since round" in displayed.stdout
    machine = await bigpe("status", "-p", str(tmp_path), "--json")
    assert json.loads(machine.stdout)[0]["findings"][0]["fault"] == "failures"


async def test_lost_pictures_count_as_failures(tmp_path: Path) -> None:
    renderer = FakeRenderer(BlobStore(Project(tmp_path).images))
    async with open_fake(tmp_path, config(8), renderer=renderer) as session:
        async for message in session.run():
            if message.kind == "PoolChanged" and message.round == 1:
                renderer.broken_prompts = AnyPrompt()
    async with reading(tmp_path) as store:
        history = await history_of(store, "main")
    assert sum(fact.missing for fact in history.facts) > 8
    assert any("cannot paint" in cause for fact in history.facts for cause in fact.causes)
    assert "failures" in {finding.fault for finding in diagnose(history.facts)}


async def test_a_plan_from_a_run_and_from_a_spread(tmp_path: Path) -> None:
    await run_fake(tmp_path, config(6))
    place = ["-p", str(tmp_path)]
    done = await bigpe("plan", "--effect", "0.004", *place, "--json")
    plans = json.loads(done.stdout)["plans"]
    assert plans[0]["seeds"] == 1 and plans[0]["power"] >= 0.8
    assert plans[0]["renders"] == 2 * plans[0]["prompts"]
    given = await bigpe("plan", "--effect", "0.39", "--sd", "0.755")
    assert given.exit_code == 0 and " 32 " in given.stdout
    missing = await bigpe("plan", "--effect", "0.1", "--run", "none", *place)
    assert isinstance(missing.exception, ConfigError)
