"""Measuring treatments: paired, shared, repeatable, and honest about what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from autogen_core.models import CreateResult

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.runtime.evaluation.measure import (
    NAIVE,
    PLAIN,
    EvaluationRow,
    Treatment,
    gains_by_prompt,
    image_seed,
    measure,
    under,
)
from bigpe.runtime.evaluation.open_run import EvaluatedRun
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import (
    ConfigError,
    GivenUpError,
    StoreError,
    TransientLlmError,
    TransientServiceError,
)
from bigpe.services.core.values import Exemplar, Image, Instruction, RenderRequest
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import CONFIG, NO_WAIT, open_fake_evaluated, repeated_calls, run_fake

GUARDED = {
    "run": {**CONFIG["run"], "rounds": 1},
    "score": {"guard": [{"name": "second", "model": "elsewhere"}]},
}
ORNATE = Instruction(
    text="Add ornament.",
    exemplars=(Exemplar(naive="a pan", rewrite="a pan, ornate golden crisp vivid"),),
)


class BusyRenderer(FakeRenderer):
    """Fails each picture once, for a while."""

    def __init__(self, blobs: BlobStore) -> None:
        super().__init__(blobs)
        self._seen: set[tuple[str, int]] = set()

    def _one(self, request: RenderRequest) -> Image | Exception:
        if (request.prompt, request.seed) not in self._seen:
            self._seen.add((request.prompt, request.seed))
            return TransientServiceError("busy")
        return super()._one(request)


@pytest.fixture
async def run(tmp_path: Path) -> AsyncGenerator[EvaluatedRun]:
    await run_fake(tmp_path, GUARDED)
    guard = FakeScorer(BlobStore(Project(tmp_path).images), noise=0.0)
    async with open_fake_evaluated(tmp_path, guards={"second": guard}) as judged:
        yield judged


async def test_rows_are_paired_by_prompt_and_seed(run: EvaluatedRun) -> None:
    prompts = run.prompts("test")[:4]
    rows = await measure(run.services, under(ORNATE, "ornate"), prompts, seeds=2)
    assert [(row.prompt, row.seed) for row in rows] == [
        (prompt, image_seed(0, prompt, draw)) for prompt in prompts for draw in range(2)
    ]
    for row in rows:
        assert row.failure is None and row.score is not None and row.naive_score is not None
        assert row.gain == row.score - row.naive_score
        assert "ornate golden crisp vivid" in row.text and row.subject_kept
        # The noiseless guard likes four words, a hundredth each, and may like the added look.
        assert row.guards["second"].gain == pytest.approx(0.04, abs=0.011)
        assert row.usage.calls == 1
    assert set(gains_by_prompt(rows)) == set(prompts)


async def test_naive_against_itself_gains_exactly_nothing(run: EvaluatedRun) -> None:
    rows = await measure(run.services, NAIVE, run.prompts("test")[:3])
    assert [row.gain for row in rows] == [0.0] * 3
    assert all(row.image == row.naive_image and row.usage.calls == 0 for row in rows)


async def test_treatments_share_what_they_can_and_repeats_are_free(
    run: EvaluatedRun, tmp_path: Path
) -> None:
    prompts = run.prompts("test")[:3]
    first = await measure(run.services, PLAIN, prompts)
    other = await measure(run.services, under(ORNATE, "ornate"), prompts)
    assert [r.naive_image for r in first] == [r.naive_image for r in other]
    assert await measure(run.services, PLAIN, prompts) == first
    assert repeated_calls(tmp_path) == 0
    guard = FakeScorer(BlobStore(Project(tmp_path).images), noise=0.0)
    calls = (tmp_path / "calls.jsonl").read_text()
    async with open_fake_evaluated(tmp_path, guards={"second": guard}) as again:
        assert await measure(again.services, PLAIN, prompts) == first
    assert (tmp_path / "calls.jsonl").read_text() == calls


async def test_another_seed_gives_other_pictures(run: EvaluatedRun) -> None:
    prompts = run.prompts("test")[:2]
    item = await measure(run.services, PLAIN, prompts, seed=0)
    other = await measure(run.services, PLAIN, prompts, seed=1)
    assert not {row.seed for row in item} & {row.seed for row in other}


async def test_a_rewrite_that_cannot_be_used_gains_exactly_nothing(tmp_path: Path) -> None:
    class Mute(FakeLlm):
        def _rewrite(self, *_: object) -> str:
            return "I'm sorry, I can't help with that."

    await run_fake(tmp_path, GUARDED)
    guard = FakeScorer(BlobStore(Project(tmp_path).images))
    async with open_fake_evaluated(tmp_path, llm=Mute(), guards={"second": guard}) as run:
        rows = await measure(run.services, PLAIN, run.prompts("test")[:2], seed=5)
    assert [(row.gain, row.text) for row in rows] == [(0.0, row.prompt) for row in rows]
    assert {row.fault for row in rows} == {AnswerFault.REFUSED}


async def test_a_lost_picture_is_missing_and_says_why(tmp_path: Path) -> None:
    await run_fake(tmp_path, GUARDED)
    blobs = BlobStore(Project(tmp_path).images)
    renderer = FakeRenderer(blobs)
    texts = Treatment(name="texts", kind="texts", texts={})
    async with open_fake_evaluated(
        tmp_path, renderer=renderer, guards={"second": FakeScorer(blobs)}
    ) as run:
        prompts = run.prompts("test")[:3]
        renderer.broken_prompts = {prompts[0]}
        rows = await measure(run.services, PLAIN, prompts, seed=9)
        missing = await measure(run.services, texts, prompts, seed=9)
    assert "cannot paint" in str(rows[0].failure) and rows[0].gain is None and rows[0].text
    assert all(row.gain is not None for row in rows[1:])
    assert set(gains_by_prompt(rows)) == set(prompts[1:])
    assert all("there is none" in str(row.failure) and row.text == "" for row in missing)


async def test_a_busy_service_is_asked_again(tmp_path: Path) -> None:
    await run_fake(tmp_path, GUARDED)
    blobs = BlobStore(Project(tmp_path).images)
    seen: list[EvaluationRow] = []
    async with open_fake_evaluated(
        tmp_path, renderer=BusyRenderer(blobs), guards={"second": FakeScorer(blobs)}
    ) as run:
        patient = NO_WAIT.__class__(attempts=4, first_wait_s=0.0, longest_wait_s=0.0)
        prompts = run.prompts("test")[:2]
        rows = await measure(
            run.services, PLAIN, prompts, seed=9, retry=patient, on_row=seen.append
        )
    assert all(row.gain is not None for row in rows)
    assert sorted(seen, key=lambda row: row.seed) == sorted(rows, key=lambda row: row.seed)


async def test_what_cannot_be_judged_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no project"):
        async with open_fake_evaluated(tmp_path):
            pass
    await run_fake(tmp_path, GUARDED)
    with pytest.raises(ConfigError, match="no run 'other'"):
        async with open_fake_evaluated(tmp_path, name="other"):
            pass


async def test_a_full_disk_is_told_as_one_error(run: EvaluatedRun, tmp_path: Path) -> None:
    prompts = run.prompts("test")[:4]
    await measure(run.services, NAIVE, prompts, seed=3)
    for picture in Project(tmp_path).images.rglob("*.png"):
        picture.unlink()
    # The memo holds that it was painted, the score of another prompt needs the file.
    broken = FakeRenderer(BlobStore(tmp_path / "elsewhere"))
    guard = FakeScorer(BlobStore(Project(tmp_path).images))
    async with open_fake_evaluated(tmp_path, renderer=broken, guards={"second": guard}) as other:
        with pytest.raises(StoreError, match="cannot be read"):
            await measure(other.services, PLAIN, prompts, seed=4)


async def test_a_model_that_keeps_dying_ends_the_measurement(tmp_path: Path) -> None:
    class Dead(FakeRenderer):
        def _one(self, request: RenderRequest) -> Image | Exception:
            return GivenUpError("the render process died 7 times in a row")

    await run_fake(tmp_path, GUARDED)
    blobs = BlobStore(Project(tmp_path).images)
    rows: list[EvaluationRow] = []
    async with open_fake_evaluated(
        tmp_path, renderer=Dead(blobs), guards={"second": FakeScorer(blobs)}
    ) as run:
        with pytest.raises(GivenUpError):
            await measure(run.services, PLAIN, run.prompts("test"), seed=9, on_row=rows.append)
    assert rows == []


async def test_a_measurement_honours_retry_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(FakeLlm):
        async def create(self, *args: Any, **kwargs: Any) -> CreateResult:
            if not waits:
                raise TransientLlmError("busy", retry_after_s=9.0)
            return await super().create(*args, **kwargs)

    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(wait_s: float) -> None:
        if wait_s:
            waits.append(wait_s)
        await sleep(0)

    await run_fake(tmp_path, GUARDED)
    guard = FakeScorer(BlobStore(Project(tmp_path).images))
    async with open_fake_evaluated(tmp_path, llm=Busy(), guards={"second": guard}) as run:
        monkeypatch.setattr("bigpe.services.core.retrying.asyncio.sleep", note)
        rows = await measure(run.services, PLAIN, run.prompts("test")[:1], seed=9, retry=NO_WAIT)
    assert waits == [9.0] and rows[0].gain is not None
