"""Committed figures of scripts/chaos."""

from __future__ import annotations

from chaos.process_killer import STATES
from support.figures import read_figures
from support.paths import ROOT

NAMES = (
    "kills",
    "kills_embedded",
    "kills_min_per_state",
    "diverged_runs",
    "lost_records",
    "repeated_calls_beyond_in_flight",
    "orphan_images",
    "integrity_failures",
)
FAULTS = NAMES[3:]


def test_the_committed_figures_meet_their_bars() -> None:
    result = read_figures((ROOT / "docs/figures/chaos.jsonl").read_text("utf-8"))
    assert tuple(result) == NAMES
    assert result["kills"]["value"] >= 200
    assert result["kills_embedded"]["value"] >= 20
    assert result["kills_min_per_state"]["value"] >= 10
    assert {name: result[name]["value"] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert all(result[name]["n"] > 0 for name in NAMES)
    assert all(f"{state} " in result["kills"]["how"] for state in STATES)
