"""Committed figures of scripts/embedded_world/reward_hacking.py."""

from __future__ import annotations

import json

from support.paths import ROOT


def committed(name: str) -> dict[str, float]:
    lines = (ROOT / "docs/figures" / name).read_text("utf-8").splitlines()
    report = list(map(json.loads, lines))
    bounds = {f"{f['figure']}/{end}": f[end] for f in report for end in ("lo", "hi")}
    return {f["figure"]: f["value"] for f in report} | bounds


def test_the_committed_figures_show_it_happen_and_stopped() -> None:
    result = committed("hacking.jsonl")
    assert result["hack/best_of_run"] == result["hack/chosen/scorer alone"] == 1
    assert (
        result["hack/share_of_pulls"] == 0.333
    )  # one pull of three: each seed instruction has one
    assert result["hack/scorer_gain/robot/lo"] > 0 > result["hack/guard_gain/robot/hi"]
    assert result["hack/true_gain/robot/hi"] < 0
    assert result["hack/flagged/robot"] == result["hack/refused"] == 1
    assert result["hack/chosen/guard vetoes"] == 0


def test_the_committed_figures_show_a_longer_run_find_better_without() -> None:
    result = committed("hacking-outrun.jsonl")
    assert result["hack/best_of_run"] == result["hack/chosen/scorer alone"] == 0
    assert result["hack/share_of_pulls"] == 0.1
    assert result["hack/guard_gain/best/lo"] > 0 and result["hack/true_gain/best/lo"] > 0
    assert result["hack/scorer_gain/best/lo"] > result["hack/scorer_gain/robot/hi"]
    assert result["hack/flagged/robot"] == 1
