"""Plans keep what they promise, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bigpe.agents.statistics.power import SURE, SpreadParts, power, prompts_needed, spread_parts

quick = settings(deadline=None, derandomize=True, max_examples=40)


@pytest.mark.parametrize(("effect", "wanted"), [(0.39, 0.8), (0.2, 0.8), (0.6, 0.9)])
def test_the_prompts_asked_for_give_the_power_asked_for(effect: float, wanted: float) -> None:
    prompts = prompts_needed(effect, 0.755, wanted)
    assert prompts is not None
    rng = np.random.default_rng(8)
    draws = rng.normal(effect, 0.755, (4000, prompts))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()  # pyright: ignore[reportAttributeAccessIssue]
    error = math.sqrt(wanted * (1 - wanted) / 4000)
    assert wanted - 3 * error < found < wanted + 3 * error + 0.02


def test_the_papers_effects_need_about_30_and_111_prompts() -> None:
    # At the paper's own spread: its ten prompts gave +0.39 with an interval of +-0.54.
    spread = 0.54 / 2.262 * math.sqrt(10)
    assert prompts_needed(0.39, spread, 0.8) == pytest.approx(32, abs=3)
    assert prompts_needed(0.20, spread, 0.8) == pytest.approx(114, abs=5)


@given(st.floats(0.05, 3), st.floats(0.1, 3), st.floats(0.1, 0.99))
@quick
def test_one_prompt_fewer_would_not_do(effect: float, sd: float, wanted: float) -> None:
    prompts = prompts_needed(effect, sd, wanted)
    assert prompts is not None and power(effect, sd, prompts) >= wanted
    assert prompts == 2 or power(effect, sd, prompts - 1) < wanted


def test_what_cannot_be_planned_is_told() -> None:
    assert prompts_needed(1e-9, 1.0, 0.8) is None
    assert spread_parts([]) is None
    assert spread_parts([[[0.1]], [[0.2]]]) is None


def test_the_parts_of_the_spread_are_found() -> None:
    rng = np.random.default_rng(4)
    arms = [
        [list(rng.normal(centre, 0.5, 3)) for centre in rng.normal(arm, 2.0, 150)]
        for arm in (0.0, 10.0)
    ]
    parts = spread_parts(arms)
    assert parts is not None
    assert math.sqrt(parts.between) == pytest.approx(2.0, rel=0.1)
    assert math.sqrt(parts.within) == pytest.approx(0.5, rel=0.1)
    assert parts.sd(1) > parts.sd(4) > 2.0 * 0.9
    single = spread_parts([[[gain[0]] for gain in arms[0]]])
    assert single is not None and single.within == 0.0
    assert single.sd(1) == pytest.approx(parts.sd(1), rel=0.15)


def test_a_spread_is_at_most_its_bound_as_often_as_the_bound_says() -> None:
    rng = np.random.default_rng(12)
    pilots = [spread_parts([[[gain] for gain in row]]) for row in rng.normal(0, 2, (2000, 12))]
    held = [parts is not None and parts.sd_at_most(1) >= 2 for parts in pilots]
    assert np.mean(held) == pytest.approx(SURE, abs=4 * math.sqrt(SURE * (1 - SURE) / 2000))
    assert all(parts is not None and parts.df == 11 for parts in pilots)
    assert SpreadParts(4.0, 0.0).sd_at_most(1) == 2.0  # a spread that is known
