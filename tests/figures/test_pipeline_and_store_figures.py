"""The figures of pipeline and store: measured, complete, in one form; their scripts run."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from support.figures import read_figures
from support.paths import ROOT

NAMES = {
    "pipeline": (
        "busiest_stage_busy_share",
        "speedup_over_sequential",
        "slow_thinker_speedup",
        "embedded_cpu_share",
        "embedded_over_sequential",
    ),
    "store": ("durable_over_autogen_ratio", "open_million_seconds", "resume_seconds_growth"),
}


def check(lines: str, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    found = read_figures(lines)
    assert tuple(found) == names
    for row in found.values():
        assert row["value"] > 0 and row["n"] >= 1 and row["how"]
        assert row["lo"] is None or row["lo"] <= row["value"] <= row["hi"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_figures_are_complete(name: str) -> None:
    check((ROOT / f"docs/figures/{name}.jsonl").read_text("utf-8"), NAMES[name])


def test_the_bars_that_are_met_stay_met() -> None:
    figures = {
        figure: row["value"]
        for name in NAMES
        for figure, row in check(
            (ROOT / f"docs/figures/{name}.jsonl").read_text("utf-8"), NAMES[name]
        ).items()
    }
    assert figures["busiest_stage_busy_share"] >= 0.95
    assert figures["speedup_over_sequential"] >= 1.5
    assert figures["slow_thinker_speedup"] >= 8
    assert figures["embedded_cpu_share"] >= 0.9
    assert figures["embedded_over_sequential"] >= 1
    assert figures["open_million_seconds"] < 0.5
    assert figures["durable_over_autogen_ratio"] >= 0.7
    assert figures["resume_seconds_growth"] < 2


@pytest.mark.parametrize(
    ("module", "part", "names"),
    [
        ("benchmarks.bench_pipeline", "fakes", NAMES["pipeline"][:2]),
        ("benchmarks.bench_pipeline", "thinker", NAMES["pipeline"][2:3]),
        ("benchmarks.bench_store", "throughput", NAMES["store"][:1]),
        ("benchmarks.bench_store", "history", NAMES["store"][1:]),
    ],
)
def test_the_scripts_measure(module: str, part: str, names: tuple[str, ...]) -> None:
    command = [sys.executable, str(ROOT / "scripts"), module, "--quick", "--part", part]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    check(done.stdout, names)
