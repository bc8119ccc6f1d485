"""Refusals of content: counted by instruction, missing data, reported where they bias gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from bigpe.agents.messages.answer_counts import AnswerCounts, Refusals
from bigpe.agents.messages.core import ArmPulled, PoolChanged, StepFailed
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_images import GOOD_WORDS, FakeRenderer
from bigpe.testing.runs import messages_of, run_fake


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_the_probability_is_that_of_fishers_test(
    rewrites: int, naive: int, data: st.DataObject
) -> None:
    refused = data.draw(st.integers(0, rewrites))
    naive_refused = data.draw(st.integers(0, naive))
    counts = Refusals(rewrites=rewrites, refused=refused, naive=naive, naive_refused=naive_refused)
    table = [[refused, rewrites - refused], [naive_refused, naive - naive_refused]]
    expected: Any = fisher_exact(table, alternative="greater")
    assert abs(counts.probability - expected.pvalue) < 1e-9


async def test_refusals_are_missing_data_by_instruction(tmp_path: Path) -> None:
    renderer = FakeRenderer(BlobStore(tmp_path / "images"), log=tmp_path / "calls.jsonl")
    renderer.refused_words = frozenset(GOOD_WORDS)
    await run_fake(tmp_path, renderer=renderer)
    failures = [m for m in messages_of(tmp_path, StepFailed) if m.error == "ModerationError"]
    assert failures and not any(m.will_retry for m in failures)
    last = messages_of(tmp_path, PoolChanged)[-1].answers
    refused = {id: counts.refused for id, counts in last.refusals.items()}
    missing: dict[str, int] = {}
    for pulled in messages_of(tmp_path, ArmPulled):
        missing[pulled.instruction] = missing.get(pulled.instruction, 0) + pulled.missing
    assert refused == {id: count for id, count in missing.items() if count}
    assert all(counts.naive_refused == 0 < counts.naive for counts in last.refusals.values())
    worst = Refusals(rewrites=20, refused=9, naive=20)
    even = Refusals(rewrites=20, refused=2, naive=20, naive_refused=2)
    lines = AnswerCounts(refusals={"a" * 16: worst, "b" * 16: even}).refusal_lines
    assert [("selection bias" in line) for line in lines] == [True, False]


async def test_a_run_without_refusals_has_no_such_field(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    assert all(not m.answers.refusals for m in messages_of(tmp_path, PoolChanged))
