"""What docs/scaling.md says of a million pictures comes from a simulation that keeps its books."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulations.simulate_scale import Setting, simulate

SMALL = Setting(renders=24_000, render_workers=4, score_workers=2, rounds_in_flight=32)


def test_equal_settings_have_equal_outcomes() -> None:
    assert simulate(SMALL, 3) == simulate(SMALL, 3)


def test_a_busy_renderer_sets_the_pace_and_twice_as_many_halve_the_time() -> None:
    item = simulate(replace(SMALL, worker_death_hours=1e9))
    two = simulate(replace(SMALL, worker_death_hours=1e9, render_workers=8, score_workers=4))
    assert item.render_busy > 0.9
    # No faster than its workers can paint, and close to it.
    assert item.renders_per_s <= 4 / SMALL.render_s
    assert item.hours / two.hours == pytest.approx(2, rel=0.15)
    assert item.usd_gpu == pytest.approx(4.5 * item.hours * SMALL.usd_per_gpu_hour)


def test_lost_workers_cost_time_and_no_pictures() -> None:
    calm = simulate(replace(SMALL, worker_death_hours=1e9))
    deadly = simulate(replace(SMALL, worker_death_hours=0.02))
    assert calm.batches_lost == 0 < deadly.batches_lost
    assert deadly.rounds == calm.rounds and deadly.hours > calm.hours


def test_a_slow_session_is_the_limit_whatever_the_workers() -> None:
    many = replace(SMALL, render_workers=64, score_workers=16, session_s=0.05)
    found = simulate(many)
    assert found.session_busy > 0.8 and found.renders_per_s <= 1 / 0.05
