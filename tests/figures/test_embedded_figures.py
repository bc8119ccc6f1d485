"""docs/figures/embedded.jsonl: measured on the shipped weights, and every bar met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.bench_embedded import demo_figures
from embedded_world.embedded.demo_runs import Judged, judged
from support.paths import ROOT

from bigpe.runtime.comparison import Compared
from bigpe.runtime.evaluate import Settings, evaluate
from bigpe.services.fingerprints import folder_fingerprint
from bigpe.testing.runs import open_fake_evaluated, run_fake

EMBEDDED = ROOT / "services/embedded"
LINES = (ROOT / "docs/figures/embedded.jsonl").read_text("utf-8").splitlines()
FIGURES: dict[str, dict[str, Any]] = {row["figure"]: row for row in map(json.loads, LINES)}
BARS: dict[str, tuple[float, float]] = {
    "reader_subject_acc": (0.95, 1),
    "reader_place_acc": (0.95, 1),
    "reader_light_acc": (0.85, 1),
    "reader_style_acc": (0.85, 1),
    "t2i_subject_acc": (0.85, 1),
    "t2i_place_acc": (0.85, 1),
    "t2i_light_acc": (0.75, 1),
    "t2i_style_acc": (0.75, 1),
    "t2i_sharp_order_acc": (0.85, 1),
    "t2i_vivid_order_acc": (0.85, 1),
    "t2i_detail_order_acc": (0.85, 1),
    "scorer_pair_acc": (0.88, 1),
    "scorer_spearman_generated": (0.7, 1),
    "gain_filler_share": (-0.1, 0.1),
    "render_seconds": (0, 0.4),
    "package_mb": (0, 40),
}
"""Least and most."""


def test_they_were_measured_on_the_shipped_weights() -> None:
    told = FIGURES["package_mb"]["how"]
    for name in ("pipeline", "scorer", "guard", "reader"):
        assert f"{name} {folder_fingerprint(EMBEDDED / name)}" in told


@pytest.mark.parametrize("name", BARS)
def test_the_bar_is_met(name: str) -> None:
    least, most = BARS[name]
    assert least <= FIGURES[name]["value"] <= most


def test_good_words_help_and_bad_words_harm() -> None:
    assert FIGURES["gain_good_modifiers"]["lo"] > 0 > FIGURES["gain_bad_modifiers"]["hi"]


def test_the_package_data_is_small() -> None:
    size = sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file())
    assert size <= 40e6


# -- the demo's figures ---------------------------------------------------------------------------


async def test_a_run_is_judged_by_what_it_chose(tmp_path: Path) -> None:
    await run_fake(tmp_path)
    async with open_fake_evaluated(tmp_path) as run:
        report = await evaluate(run, Settings(prompts=6), lambda _: None)
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


def means(one: Compared) -> tuple[float, float]:
    assert one.gain is not None
    return one.gain.mean, one.over_seed.mean if one.over_seed else 0.0


def test_several_runs_make_three_figures() -> None:
    found = [Judged(4.0, 1.0), Judged(-1.0, -2.0), Judged(2.0, 0.0), Judged(0.0, 0.0)]
    rows = {row["figure"]: row for row in demo_figures(found, "told")}
    assert rows["demo_positive_runs"]["value"] == 0.5
    assert rows["demo_beats_seed_runs"]["value"] == 0.25
    assert [rows["demo_median_gain"][key] for key in ("value", "lo", "hi")] == [1.0, -1.0, 4.0]
    assert all(row["n"] == 4 and row["how"] for row in rows.values())
