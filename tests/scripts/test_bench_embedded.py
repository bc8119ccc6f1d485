"""Figures of the demo, from evaluated runs on the fakes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_embedded import demo_figures
from embedded_world.embedded.demo_runs import Judged, judged

from bigpe.runtime.evaluation.compare import TreatmentComparison
from bigpe.runtime.evaluation.pipeline import EvaluationSettings, evaluate
from bigpe.testing.runs import open_fake_evaluated, run_fake


async def test_a_run_is_judged_by_what_it_chose(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    async with open_fake_evaluated(tmp_path) as run:
        report = await evaluate(run, EvaluationSettings(prompts=6), lambda _: None)
    assert report.selection is not None and report.selection.chosen is not None
    found = [c for c in report.compared if c.treatment.instruction == report.selection.chosen]
    assert judged(report) == Judged(*(100 * mean for mean in means(found[0])))
    seed = next(c for c in report.compared if c.treatment.name.startswith("seed: "))
    chose = report.selection.model_copy(update={"chosen": seed.treatment.instruction})
    of_seed = judged(report.model_copy(update={"selection": chose}))
    assert of_seed == (100 * means(seed)[0], 0.0)
    vetoed = report.selection.model_copy(update={"chosen": None})
    for none in (vetoed, None):
        assert judged(report.model_copy(update={"selection": none})) == (0.0, 0.0)


def means(comparison: TreatmentComparison) -> tuple[float, float]:
    assert comparison.gain is not None
    return comparison.gain.mean, comparison.over_seed.mean if comparison.over_seed else 0.0


def test_several_runs_make_three_figures() -> None:
    found = [Judged(4.0, 1.0), Judged(-1.0, -2.0), Judged(2.0, 0.0), Judged(0.0, 0.0)]
    rows = {row["figure"]: row for row in demo_figures(found, "told")}
    assert rows["demo_positive_runs"]["value"] == 0.5
    assert rows["demo_beats_seed_runs"]["value"] == 0.25
    assert [rows["demo_median_gain"][key] for key in ("value", "lo", "hi")] == [1.0, -1.0, 4.0]
    assert all(row["n"] == 4 and row["how"] for row in rows.values())
