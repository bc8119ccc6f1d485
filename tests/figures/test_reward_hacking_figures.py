"""Committed figures of scripts/embedded_world/reward_hacking.py."""

from __future__ import annotations

import json

from support.paths import ROOT


def committed(name: str) -> dict[str, float]:
    lines = (ROOT / "docs/figures" / name).read_text("utf-8").splitlines()
    told = list(map(json.loads, lines))
    bounds = {f"{f['figure']}/{end}": f[end] for f in told for end in ("lo", "hi")}
    return {f["figure"]: f["value"] for f in told} | bounds


def test_the_committed_figures_show_it_happen_and_stopped() -> None:
    told = committed("hacking.jsonl")
    assert told["hack/best_of_run"] == told["hack/chosen/scorer alone"] == 1
    assert told["hack/share_of_pulls"] == 0.333  # one pull of three: each seed instruction has one
    assert told["hack/scorer_gain/robot/lo"] > 0 > told["hack/guard_gain/robot/hi"]
    assert told["hack/true_gain/robot/hi"] < 0
    assert told["hack/flagged/robot"] == told["hack/refused"] == 1
    assert told["hack/chosen/guard vetoes"] == 0


def test_the_committed_figures_show_a_longer_run_find_better_without() -> None:
    told = committed("hacking-outrun.jsonl")
    assert told["hack/best_of_run"] == told["hack/chosen/scorer alone"] == 0
    assert told["hack/share_of_pulls"] == 0.1
    assert told["hack/guard_gain/best/lo"] > 0 and told["hack/true_gain/best/lo"] > 0
    assert told["hack/scorer_gain/best/lo"] > told["hack/scorer_gain/robot/hi"]
    assert told["hack/flagged/robot"] == 1
