"""Diagnostics: silent on healthy histories, soon loud on faulty ones, each with its remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import ROOT

from bigpe.agents.diagnostics.faults import (
    RoundDiagnostics,
    degradation_steps,
    diagnose,
    novelty_steps,
    variance_steps,
)
from bigpe.agents.statistics import change_detection

GOLDEN = ROOT / "docs/figures/diagnostics.jsonl"
FAULTS = ("stagnation", "degradation", "high variance", "truncation", "diversity", "failures")


@dataclass(frozen=True)
class World:
    """How rounds come about, before and after round 50."""

    fall: float = 0.0
    scale: float = 1.0
    cut: float = 0.02
    failed: float = 0.03
    novelty: float = 0.5
    progress: float = 0.2
    diversity: float = 0.6


HEALTHY = World()


def history(rounds: int, after: World = HEALTHY, *, seed: int = 0) -> list[RoundDiagnostics]:
    """Rounds of five gains under three instructions; from round 51 on the world is `after`."""
    rng = np.random.default_rng(seed)
    stale = 0
    made: list[RoundDiagnostics] = []
    for index in range(1, rounds + 1):
        world = after if index > 50 else HEALTHY
        missing = int(rng.binomial(5, world.failed / 2))
        fallbacks = int(rng.binomial(5 - missing, world.failed / 2))
        stale = 0 if rng.random() < world.progress else stale + 1
        arm = index % 3
        gains = rng.normal(0.02 + 0.004 * arm - world.fall, 0.01 * world.scale, 5 - missing)
        made.append(
            RoundDiagnostics(
                round=index,
                arm=f"arm {arm}",
                gains=tuple(float(gain) for gain in gains),
                missing=missing,
                fallbacks=fallbacks,
                truncated=int(rng.binomial(5, world.cut)),
                novelty=float(rng.normal(world.novelty, 0.1)),
                diversity=world.diversity,
                stale=stale,
                causes=("server is busy",) * missing,
            )
        )
    return made


def test_a_healthy_history_raises_nothing() -> None:
    assert diagnose([]) == []
    result = history(100)
    assert [diagnose(result[:end]) for end in range(1, 101)] == [[]] * 100


@pytest.mark.parametrize(
    ("fault", "after", "expected", "remedy"),
    [
        ("stagnation", World(progress=0.0), "no better lower bound", "professional prompts"),
        ("degradation", World(fall=0.01), "gain -1", "renderer, language model or scorer"),
        ("high variance", World(scale=2.0), "before by 0.9", "batch_size of"),
        ("truncation", World(cut=0.2), "longer than the renderer reads", "max_tokens"),
        ("diversity", World(novelty=0.3), "differ by 0.", "modifier"),
        ("diversity", World(diversity=0.02), "differ by 0.02", "professional prompts"),
        ("failures", World(failed=0.3), "most often: server is busy", "StepFailed"),
    ],
)
def test_each_fault_is_named_with_evidence_and_remedy(
    fault: str, after: World, expected: str, remedy: str
) -> None:
    rounds = history(85, after)
    assert diagnose(rounds[:50]) == []
    found = {finding.fault: finding for finding in diagnose(rounds)}
    assert set(found) == {fault}
    finding = found[fault]
    assert expected in finding.evidence and remedy in finding.remedy
    assert 40 <= finding.since <= 75
    assert finding.line.startswith(f"{fault} since round {finding.since}: ")


def test_noise_that_drowns_every_gain_names_the_batch_that_would_do() -> None:
    rng = np.random.default_rng(3)
    noisy = [
        RoundDiagnostics(i, f"arm {i % 2}", tuple(map(float, rng.normal(0.002, 0.05, 5))))
        for i in range(1, 31)
    ]
    found = [finding for finding in diagnose(noisy) if finding.fault == "high variance"]
    assert len(found) == 1
    size = int(found[0].remedy.split("batch_size of ")[1].split()[0])
    assert size > 50


def test_what_exploration_does_is_no_degradation() -> None:
    """New and worse instructions lower the running mean; no instruction earns less than before."""
    rng = np.random.default_rng(5)
    rounds = [
        RoundDiagnostics(
            i,
            f"arm {i // 4}",
            tuple(map(float, rng.normal(0.03 - 0.001 * (i // 4), 0.01, 5))),
        )
        for i in range(1, 101)
    ]
    assert [f.fault for f in diagnose(rounds)] == []


def test_lost_rounds_and_single_gains_are_no_obstacle() -> None:
    lost = {"missing": 1, "causes": ("no answer",)}
    rounds = [RoundDiagnostics(i, "a", (), **lost, stale=i - 1) for i in range(1, 44)]
    assert [finding.fault for finding in diagnose(rounds)] == ["failures", "stagnation"]
    assert diagnose([RoundDiagnostics(i, "a", (0.1,)) for i in range(1, 32)]) == []


@given(st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_many_histories_at_once_are_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (3, 30)
    means, squares = rng.normal(size=shape), rng.chisquare(4, shape)
    arms = rng.integers(0, 4, shape)
    counts = rng.integers(0, 6, shape).astype(float)
    values = np.where(rng.random(shape) < 0.2, math.nan, rng.normal(size=shape))
    statistics: list[Callable[[slice], Any]] = [
        lambda rows: change_detection.cusum(
            degradation_steps(means[rows], squares[rows], arms[rows], counts[rows])
        ),
        lambda rows: change_detection.cusum(
            variance_steps(squares[rows], np.maximum(counts[rows] - 1, 0))
        ),
        lambda rows: change_detection.newest_sums(novelty_steps(values[rows])),
    ]
    for statistic in statistics:
        together = statistic(slice(None))
        for row in range(3):
            np.testing.assert_allclose(statistic(slice(row, row + 1))[0], together[row])
        assert (together >= 0).all() and np.isfinite(together).all()


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=80))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_the_newest_sum_is_the_best_of_all_short_ones(values: list[float]) -> None:
    found = change_detection.newest_sums(np.array([values]))[0]
    for end in range(1, len(values) + 1):
        sums = [sum(values[end - k : end]) for k in range(min(end, change_detection.NEWEST) + 1)]
        assert found[end - 1] == pytest.approx(max(sums), abs=1e-9)


def test_scores_are_standard_normal_while_nothing_changes() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(7.0, 0.3, (400, 60))
    arms = rng.integers(0, 3, (400, 60))
    counts = np.full((400, 60), 5.0)
    means = values + arms
    squares = 5 * 0.3**2 * rng.chisquare(4, (400, 60))
    for scores in (
        change_detection.level_scores(values),
        change_detection.arm_scores(means, squares, arms, counts),
        change_detection.spread_scores(squares, counts - 1),
    ):
        messages = scores[~np.isnan(scores)]
        assert messages.size > 10_000
        assert float(messages.mean()) == pytest.approx(0, abs=0.03)
        assert float(messages.std()) == pytest.approx(1, abs=0.04)
