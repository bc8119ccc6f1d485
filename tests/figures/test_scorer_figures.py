"""docs/figures/scorer.jsonl, and the script that measures it in its quick form."""

from __future__ import annotations

import subprocess
import sys

from support.figures import read_figures
from support.paths import ROOT


def test_the_committed_figures_meet_their_bars() -> None:
    found = read_figures((ROOT / "docs/figures/scorer.jsonl").read_text("utf-8"))
    assert found["vision_gemm_ratio_b1"]["value"] >= 0.9
    assert found["vision_gemm_ratio_b8"]["value"] >= 0.9
    assert found["batch_consistency_max_diff"]["value"] <= 1e-6
    assert found["parity_max_diff"]["value"] <= 1e-6
    assert found["rss_growth_mb"]["value"] <= 10


def test_the_script_measures() -> None:
    command = [sys.executable, str(ROOT / "scripts"), "benchmarks.bench_scorer", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_figures(done.stdout)
    assert found["parity_max_diff"]["value"] <= 1e-6
    assert found["batch_consistency_max_diff"]["value"] <= 1e-6
    assert found["rss_growth_mb"]["value"] <= 40
