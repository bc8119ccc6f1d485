"""scripts/chaos with 20 kills, and a control with a faulty product."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from chaos.activity_marks import Mark
from chaos.crash_checks import Findings
from chaos.launchers import ForkedStage
from chaos.process_killer import Trial, Undisturbed, fake_config, over_life, state_of
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


@pytest.mark.timeout(900)
def test_twenty_kills_lose_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts"), "chaos", "--quick"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = read_figures(done.stdout)
    assert tuple(output) == NAMES
    assert output["kills"]["value"] >= 20
    assert {name: output[name]["value"] for name in FAULTS} == dict.fromkeys(FAULTS, 0)


@pytest.mark.timeout(900)
def test_a_run_that_keeps_no_promises_is_found_out(tmp_path: Path) -> None:
    """Else the figures would prove nothing."""
    with ForkedStage() as stage:
        whole = Undisturbed(stage, tmp_path / "whole", fake_config(11))
        for sabotage, wanted in {"repays": {"repeated"}, "loses": {"diverged", "lost"}}.items():
            stage.sabotage, found = sabotage, Findings()
            trial = Trial(stage, tmp_path / sabotage, whole, found)
            trial.run(over_life(random.Random(1), whole, 2, migrate=False))
            kinds = ("diverged", "lost", "repeated", "orphans", "damaged")
            assert {kind for kind in kinds if getattr(found, kind)} == wanted


def mark(sign: str, state: str) -> Mark:
    return Mark(sign, state, 0, 0, [])


def test_a_kill_is_of_the_rarest_state_that_is_open() -> None:
    marks = [mark("+", "resume"), mark("+", "llm"), mark("-", "resume"), mark("+", "commit")]
    assert state_of(marks[:1]) == "resume"
    assert state_of(marks[:3]) == "llm"
    assert state_of(marks) == "commit"
    assert state_of([*marks, mark("-", "commit"), mark("-", "llm")]) == "between"
