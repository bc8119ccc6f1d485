"""How different things are: bounds, and the closed form against the pairs themselves."""

from __future__ import annotations

from itertools import combinations
from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.agents.diagnostics.text_diversity import spread

VECTOR = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda v: hypot(*v) > 0.1)


def unit(vector: list[float]) -> list[float]:
    return [value / hypot(*vector) for value in vector]


@given(st.lists(VECTOR, min_size=2, max_size=12))
def test_the_spread_is_the_mean_distance_of_all_pairs(vectors: list[list[float]]) -> None:
    units = [unit(vector) for vector in vectors]
    apart = [1 - sum(a * b for a, b in zip(*two, strict=True)) for two in combinations(units, 2)]
    assert spread(units) == pytest.approx(sum(apart) / len(apart), abs=1e-9)


def test_what_is_alike_has_no_spread_and_one_alone_none_to_tell() -> None:
    assert spread([unit([1, 2, 3])] * 5) == pytest.approx(0, abs=1e-12)
    assert spread([[1.0, 0.0], [0.0, 1.0]]) == 1.0
    assert spread([[1.0]]) is None
