"""Whole runs of the free-form style on fakes: the search works, and a run is repeatable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.terminal_text import terminal_lines

from bigpe.agents.messages.core import (
    ArmPulled,
    CritiqueRequested,
    GradientsComputed,
    InstructionsProposed,
    PoolChanged,
    PromptsRewritten,
    ProposalRequested,
    RenderRequested,
    RewriteRequested,
    RunStarted,
)
from bigpe.agents.messages.search import OperatorTally
from bigpe.runtime.cli.run.status import status
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.describing.messages import describe
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_images import BAD_WORDS, GOOD_WORDS, FakeRenderer
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.runs import CONFIG, messages_of, open_fake, run_fake, transcript


def config(**run: Any) -> dict[str, Any]:
    return {
        "run": {**CONFIG["run"], "rounds": 14, **run},
        "llm": {"default": {"provider": "openai", "model": "fake", "base_url": "http://localhost"}},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    folder = tmp_path_factory.mktemp("free-form")
    asyncio.run(run_fake(folder, config(), llm=FakeReasoner(log=folder / "calls.jsonl")))
    return folder


def test_the_search_finds_what_the_scorer_likes(folder: Path) -> None:
    (started,) = messages_of(folder, RunStarted)
    assert started.plan.style == "free-form"
    rewrites = [r for m in messages_of(folder, PromptsRewritten) for r in m.rewrites]
    assert all(rewrite.fallback is None for rewrite in rewrites)
    best = messages_of(folder, InstructionsProposed)[-1]
    assert not any(
        p.composed for m in messages_of(folder, InstructionsProposed) for p in m.proposals
    )
    assert best.proposals or best.refused


def test_requests_hold_the_batch_contrasts_and_what_was_tried(folder: Path) -> None:
    critiques = messages_of(folder, CritiqueRequested)
    assert all(message.study is not None for message in critiques)
    studies = [message.study for message in critiques if message.study]
    assert all(study.batch for study in studies)
    assert any(study.contrasts for study in studies), "arms share prompts and seeds"
    assert any(change.prompts for study in studies for change in study.search.tried)
    assert all(
        g.composed is False for m in messages_of(folder, GradientsComputed) for g in m.gradients
    )


def test_every_operator_gets_its_trials(folder: Path) -> None:
    operators = [
        operator
        for message in messages_of(folder, ProposalRequested)
        if message.search
        for operator in message.search.operators
    ]
    proposals = [p for m in messages_of(folder, InstructionsProposed) for p in m.proposals]
    assert {"revise", "explore", "merge"} <= set(operators)
    assert all(proposal.operator and proposal.change for proposal in proposals)
    assert all("\n" in proposal.instruction.text for proposal in proposals)
    assert not any(proposal.instruction.exemplars for proposal in proposals), "none by default"


async def test_the_best_instruction_names_more_good_words_than_bad_ones(folder: Path) -> None:
    async with open_fake(folder, config(), llm=FakeReasoner()) as session:
        text = session.pool.best().instruction.text
    good, bad = (sum(word in text for word in words) for words in (GOOD_WORDS, BAD_WORDS))
    assert good > bad


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_the_same_seed_gives_the_same_run_whichever_stage_is_slow(
    tmp_path: Path, concurrency: int
) -> None:
    settings = config(rounds=6, concurrency=concurrency)
    await run_fake(tmp_path / "a", settings, llm=FakeReasoner(delay_s=0.004))
    renderer = FakeRenderer(BlobStore(Project(tmp_path / "b").images), delay_s=0.005)
    await run_fake(tmp_path / "b", settings, llm=FakeReasoner(), renderer=renderer)
    assert transcript(tmp_path / "a") == transcript(tmp_path / "b")


def test_the_status_has_the_operators_and_the_whole_best_instruction(folder: Path) -> None:
    (row,) = json.loads(CliRunner().invoke(status, ["-p", str(folder), "--json"]).stdout)
    assert row["operators"]["revise"]["chosen"] >= 2
    found = CliRunner().invoke(status, ["-p", str(folder), "--best", "--json"])
    assert "\n" in json.loads(found.stdout)["main"]["text"]
    assert "operators: " in CliRunner().invoke(status, ["-p", str(folder)]).stdout


class Deaf(FakeReasoner):
    """Rewrites without heeding the instruction."""

    def _rewrite(self, messages: Any, extra: Any) -> str:
        system, user = str(messages[0].content), str(messages[-1].content)
        return (
            super()._rewrite(messages, extra)
            if '"inference"' in system or ('"instruction"' in system)
            else f"<prompt>{user}, soft pastel</prompt>"
        )


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_instruction_that_changes_no_rewrite_is_retired_before_any_image(
    tmp_path: Path, concurrency: int
) -> None:
    settings = config(rounds=8, concurrency=concurrency) | {"data": {"batches": "shared"}}
    await run_fake(tmp_path, settings, llm=Deaf())
    pulls = {m.round: m for m in messages_of(tmp_path, ArmPulled)}
    (started,) = messages_of(tmp_path, RunStarted)
    seeds = {seed.instruction.id for seed in started.plan.instructions}
    unchanged = {m.round: m for m in pulls.values() if m.unchanged}
    assert unchanged, "children of a model that does not heed instructions"
    first = {pulls[index].instruction: pulls[index] for index in sorted(pulls, reverse=True)}
    assert all(m.unchanged == (id not in seeds) for id, m in first.items())
    assert all(not m.gains and not m.missing for m in unchanged.values())
    rendered = {m.round for m in messages_of(tmp_path, RenderRequested) if m.purpose == "rewrite"}
    assert rendered.isdisjoint(unchanged)
    retired = {arm.instruction for m in messages_of(tmp_path, PoolChanged) for arm in m.retired}
    assert {m.instruction for m in unchanged.values()} <= retired
    requests = [m.instruction.id for m in messages_of(tmp_path, RewriteRequested)]
    assert max(pulls) == 8, "such rounds do not end a run"
    assert all(requests.count(m.instruction) == 1 for m in unchanged.values()) or concurrency > 1
    tallies = messages_of(tmp_path, PoolChanged)[-1].operators
    assert sum(OperatorTally(*tally).won for tally in tallies.values()) == 0
    assert sum(OperatorTally(*tally).lost for tally in tallies.values()) >= len(
        {m.instruction for m in unchanged.values()}
    )


def test_the_transcript_shows_all_that_requests_for_gradients_hold(folder: Path) -> None:
    between, tallies = 0, 0
    for message in messages_of(folder, CritiqueRequested):
        assert message.study is not None
        displayed = "\n".join(terminal_lines(describe(message), whole=True))
        for item in message.study.contrasts:
            pairs = (item.best, *item.between, item.worst)
            assert all(pair.rewrite in displayed for pair in pairs)
            between += len(item.between)
        assert all(f" {tally.term} " in displayed for tally in message.study.tallies)
        tallies += len(message.study.tallies)
    assert between and tallies
