"""Evaluations: chosen on validation, reported on test, resumable, honest about hacking."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures
from rich.console import Console

from bigpe.agents.bandit.pool import PoolRow
from bigpe.agents.evidence.terms import subject_words, words
from bigpe.agents.messages.usage import Prices
from bigpe.prompts.library import naive_prompts
from bigpe.runtime.evaluation.compare import Evaluation, compare
from bigpe.runtime.evaluation.measure import DISTRACTORS, Treatment, distractors, measure
from bigpe.runtime.evaluation.pipeline import (
    EvaluationProgress,
    EvaluationSettings,
    Reference,
    evaluate,
)
from bigpe.runtime.evaluation.report import markdown, sentences, show
from bigpe.runtime.evaluation.selection import select_best, shortlist
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Exemplar, Instruction, Score, ScoreRequest
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_images import rng_of
from bigpe.testing.fakes import FakeScorer
from bigpe.testing.runs import CONFIG, open_fake, open_fake_evaluated, repeated_calls, run_fake

GUARDED = {
    "run": {**CONFIG["run"], "rounds": 3},
    "data": {"naive": "naive.txt"},
    "score": {"guard": [{"name": "second", "model": "elsewhere", "veto": True}]},
}
ORNATE = Instruction(
    text="Add [bold]ornament[/bold] | now.",
    exemplars=(Exemplar(naive="a pan", rewrite="a pan, ornate golden crisp vivid"),),
)


class Contrary(FakeScorer):
    """Dislikes what the fake scorer likes."""

    def _one(self, request: ScoreRequest) -> Score | Exception:
        found = super()._one(request)
        if isinstance(found, Score):
            return found.model_copy(update={"value": -found.value, "fingerprint": "contrary"})
        return found

    async def open(self) -> str:
        return "contrary"


class Attentive(FakeScorer):
    """Sees which words a picture was painted from, and holds them against those it is asked for."""

    async def open(self) -> str:
        return "attentive"

    async def features(self, image: str) -> list[float]:
        alike = "palace" in self._words(image)
        drawn = rng_of("palace") if alike else rng_of("look", image)
        vector = [drawn.gauss(0, 1) for _ in range(64)]
        return [value / math.hypot(*vector) for value in vector]

    def _one(self, request: ScoreRequest) -> Score:
        requests = set(words(request.prompt))
        share = len(requests & self._words(request.image)) / len(requests)
        return Score(value=share, fingerprint="attentive")

    def _words(self, image: str) -> set[str]:
        return set(words(str(Pictures.open(io.BytesIO(self._blobs.read(image))).info["prompt"])))


async def judged(
    folder: Path, settings: EvaluationSettings, guard: type[FakeScorer] = FakeScorer, **models: Any
) -> tuple[Evaluation, list[EvaluationProgress]]:
    results: list[EvaluationProgress] = []
    second = guard(BlobStore(Project(folder).images), noise=0.0)
    async with open_fake_evaluated(folder, guards={"second": second}, **models) as run:
        return await evaluate(run, settings, results.append), results


@pytest.fixture
async def project(tmp_path: Path) -> Path:
    (tmp_path / "naive.txt").write_text("\n".join(naive_prompts("world")[::5]))
    await run_fake(tmp_path, GUARDED)
    return tmp_path


async def test_everything_is_compared_and_the_good_instruction_wins(project: Path) -> None:
    report, result = await judged(
        project, EvaluationSettings(instructions=(ORNATE,), prompts=12, seeds=2)
    )
    names = [comparison.treatment.name for comparison in report.compared]
    assert names[:3] == ["naive", "LLM without instruction", "seed: details"]
    assert any(name == "professional prompts" for name in names)
    assert report.prompts == 12 and len(report.lines) == 12
    given = report.compared[-1]
    assert given.treatment.name.startswith("given: Add")
    assert given.gain is not None and given.gain.lo is not None and given.gain.p_holm is not None
    assert given.gain.n == 12 and given.gain.mean == pytest.approx(0.04, abs=0.01)
    assert given.gain.lo > 0 and given.gain.p_holm < 0.01 and given.gain.win_rate > 0.95
    assert given.over_seed is not None and given.over_seed.mean > 0.02
    assert given.guards["second"].mean > 0.02 and not given.hacked
    assert given.usage.llm_calls == 24 and given.subject_share == 1.0
    naive = report.compared[0]
    assert naive.gain is None and naive.guards == {} and naive.usage.llm_calls == 0
    # This scorer tells nothing of what it sees, so nothing is said of the pictures' variety.
    assert given.picture_diversity is None
    assert all(progress.done <= progress.of for progress in result)
    assert {progress.doing for progress in result} >= {"choosing on validation prompts", *names}
    # A line's gains average to the table's.
    gains = [line.gains[given.treatment.id] for line in report.lines]
    assert sum(gain or 0.0 for gain in gains) / 12 == pytest.approx(given.gain.mean)


async def test_it_is_chosen_on_validation_alone(project: Path) -> None:
    report, _ = await judged(project, EvaluationSettings(prompts=5))
    selection = report.selection
    assert selection is not None and selection.chosen is not None
    async with open_fake_evaluated(
        project, guards={"second": FakeScorer(BlobStore(Project(project).images))}
    ) as r:
        assert selection.prompts == len(r.prompts("validation"))
        assert not set(r.prompts("validation")) & {line.prompt for line in report.lines}
    best = max(selection.candidates, key=lambda item: item.gain or 0.0)
    assert selection.chosen == best.instruction
    assert selection.renders >= selection.prompts


async def test_one_candidate_is_chosen_without_measuring(project: Path) -> None:
    report, result = await judged(project, EvaluationSettings(prompts=2, candidates=1))
    selection = report.selection
    async with open_fake_evaluated(
        project, guards={"second": FakeScorer(BlobStore(Project(project).images))}
    ) as r:
        [first] = shortlist(r.campaign.pool.rows(), 1)
    assert selection is not None and selection.chosen == first.instruction
    assert (selection.prompts, selection.renders) == (0, 0)
    assert [candidate.gain for candidate in selection.candidates] == [None]
    assert {progress.of for progress in result} == {2}
    assert any("second" in note for note in report.notes), "its veto was not asked for"
    assert any(first.instruction.text in line for line in sentences(report))


async def test_references_and_validation_prompts_can_be_left_out(project: Path) -> None:
    without = frozenset[Reference](("plain", "seeds", "professional"))
    settings = EvaluationSettings(
        instructions=(ORNATE,), prompts=3, candidates=2, validation=4, without=without
    )
    report, result = await judged(project, settings)
    names = [comparison.treatment.name for comparison in report.compared]
    assert [name.split(":")[0] for name in names] == ["naive", "best", "given"]
    assert report.selection is not None and report.selection.prompts == 4
    assert {candidate.n for candidate in report.selection.candidates} == {4}
    assert {progress.of for progress in result} == {2 * 4, 3}
    whole, _ = await judged(project, settings._replace(without=frozenset(), validation=None))
    assert {c.treatment.kind for c in whole.compared} >= {"plain", "texts"}
    assert whole.lines[0].prompt == report.lines[0].prompt, "the test prompts stay the same"


async def test_a_second_evaluation_is_free_and_equal(project: Path) -> None:
    first, _ = await judged(project, EvaluationSettings(prompts=6))
    calls = (project / "calls.jsonl").read_text()
    again, _ = await judged(project, EvaluationSettings(prompts=6))
    assert again == first
    assert (project / "calls.jsonl").read_text() == calls
    assert repeated_calls(project) == 0


async def test_a_guard_that_disagrees_flags_and_vetoes(project: Path) -> None:
    settings = EvaluationSettings(instructions=(ORNATE,), prompts=12)
    report, _ = await judged(project, settings, guard=Contrary)
    assert report.compared[-1].hacked == ("second",)
    assert "WARNING: given" in markdown(report)
    nothing = Instruction(text="Say nothing.")
    rows = [PoolRow(item, 1, 3, 0.1, 0.0, 0.2, None, 0, "living") for item in (ORNATE, nothing)]
    guards = {"second": Contrary(BlobStore(Project(project).images), noise=0.0)}
    async with open_fake_evaluated(project, guards=guards) as run:
        prompts = run.prompts("validation")
        free = await select_best(run.services, rows, prompts)
        held = await select_best(run.services, rows, prompts, veto=["second"])
        none = await select_best(run.services, rows[:1], prompts, veto=["second"])
    assert free.chosen == ORNATE and held.chosen == nothing and none.chosen is None
    assert [candidate.vetoed_by for candidate in held.candidates] == [("second",), ()]


async def test_a_veto_is_told_and_leaves_the_naive_prompts(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ornate = [PoolRow(ORNATE, 1, 3, 0.1, 0.0, 0.2, None, 0, "living")]
    guards = {"second": Contrary(BlobStore(Project(project).images))}
    async with open_fake_evaluated(project, guards=guards) as run:
        monkeypatch.setattr(run.campaign.pool, "rows", lambda: ornate)
        report = await evaluate(run, EvaluationSettings(prompts=4), lambda _: None)
    assert any("was refused: guard second" in note for note in report.notes)
    assert any("use the naive prompts" in note for note in report.notes)
    assert not any(comparison.treatment.name.startswith("best") for comparison in report.compared)


async def test_rewrites_that_lead_away_are_told_by_what_the_pictures_show(project: Path) -> None:
    """Every prompt becomes the same palace; the subject words stay in the text nevertheless."""
    eye = Attentive(BlobStore(Project(project).images))
    async with open_fake_evaluated(project, scorer=eye, guards={"second": eye}) as run:
        prompts = run.prompts("test")
        palace = dict.fromkeys(prompts, "a golden palace")
        faithful = {prompt: f"{prompt}, golden" for prompt in prompts}
        measured = [
            (item, await measure(run.services, item, prompts, others=prompts))
            for item in (
                Treatment(name="palace", kind="texts", texts=palace),
                Treatment(name="faithful", kind="texts", texts=faithful),
            )
        ]
        images = {i: r for _, rows in measured for r in rows for i in (r.image, r.naive_image)}
        request = {i: ScoreRequest(image=i, prompt=row.prompt) for i, row in images.items()}
        seen = {i: await run.services.score.features(requests) for i, requests in request.items()}
    away, kept = compare(measured, against=None, prices=Prices(), seen=seen)
    assert away.shown_share is not None and away.shown_share < 0.2 and away.strays
    assert kept.shown_share == kept.naive_shown_share == away.naive_shown_share == 1.0
    assert not kept.strays
    # One house style is a loss of variety; a word more is none.
    assert away.picture_diversity == pytest.approx(0, abs=0.01)
    assert kept.picture_diversity == pytest.approx(1, abs=0.1)
    # Each of the pictures was held against three other prompts, and that is counted.
    assert kept.usage.scores == (1 + DISTRACTORS) * kept.usage.renders


def test_a_picture_is_held_against_prompts_of_other_subjects() -> None:
    prompts = naive_prompts("world")
    for prompt in prompts[:40]:
        found = distractors(prompt, prompts)
        assert found == distractors(prompt, [*reversed(prompts)]) and len(found) == DISTRACTORS
        assert not any(subject_words(prompt) & subject_words(other) for other in found)
    assert distractors("a cat", ["the cat", "a cat in the snow"]) == []


async def test_until_significant_stops_early_on_a_clear_gain(project: Path) -> None:
    report, _ = await judged(
        project, EvaluationSettings(instructions=(ORNATE,), until_significant=True)
    )
    sequence = report.sequence
    assert sequence is not None and sequence.lo is not None
    assert "excludes 0" in sequence.stopped and 8 <= sequence.n < 20 and sequence.lo > 0
    assert report.prompts == sequence.n
    assert [comparison.treatment.kind for comparison in report.compared] == ["naive", "instruction"]


async def test_until_significant_stops_at_precision_or_when_all_are_used(project: Path) -> None:
    nothing = Instruction(text="Say nothing.")
    wide = EvaluationSettings(instructions=(nothing,), until_significant=True, precision=0.1)
    report, _ = await judged(project, wide)
    assert report.sequence is not None and "half-width" in report.sequence.stopped
    few = EvaluationSettings(instructions=(nothing,), until_significant=True, prompts=6)
    report, _ = await judged(project, few)
    assert report.sequence is not None and "all 6 prompts" in report.sequence.stopped
    assert report.sequence.lo is None
    assert json.loads(report.model_dump_json())["sequence"]["hi"] is None


async def test_rows_and_report_are_stored_for_readers(project: Path) -> None:
    report, _ = await judged(project, EvaluationSettings(prompts=4))
    guards = {"second": FakeScorer(BlobStore(Project(project).images))}
    async with open_fake_evaluated(project, guards=guards) as run:
        stored = await run.store.row("evaluation_report", run="main")
        rows = await run.store.rows("evaluation_rows", run="main", split="test")
    assert stored is not None and Evaluation.model_validate_json(stored["body"]) == report
    assert len(rows) == 4 * len(report.compared)


async def test_tables_show_names_as_they_are(project: Path) -> None:
    report, _ = await judged(project, EvaluationSettings(instructions=(ORNATE,), prompts=5))
    console = Console(record=True, width=250)
    show(console, report, every_prompt=True)
    output = console.export_text()
    assert "given: Add [bold]ornament[/bold] | now." in output
    assert all(line.prompt in output for line in report.lines)
    text = markdown(report)
    assert r"given: Add \[bold\]ornament\[/bold\] \| now." in text
    assert _columns(text.splitlines())


def _columns(lines: Sequence[str]) -> bool:
    """Every table's rows have as many cells as its heading."""
    counts = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    return all(a == b for a, b in zip(counts, counts[1:], strict=False) if a and b)


async def test_a_run_without_results_says_so(tmp_path: Path) -> None:
    (tmp_path / "naive.txt").write_text("\n".join(naive_prompts("world")[::5]))
    async with open_fake(tmp_path, GUARDED) as session:
        session.pause()
    with pytest.raises(ConfigError, match="has not begun"):
        await judged(tmp_path, EvaluationSettings())
