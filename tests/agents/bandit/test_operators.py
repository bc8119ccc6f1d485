"""Operators: each gets its trials, and the one whose children win is chosen more often."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigpe.agents.bandit.operators import FORCED_TRIALS, OPERATORS, OperatorChoice
from bigpe.agents.messages.search import Operator

quick = settings(deadline=None, derandomize=True, max_examples=40)
SOME = st.sets(st.sampled_from(OPERATORS), min_size=1)


@quick
@given(SOME, st.integers(0, 10**6))
def test_every_possible_operator_gets_its_trials_first(possible: set[Operator], seed: int) -> None:
    choice, rng = OperatorChoice(), random.Random(seed)
    chosen = Counter(choice.choose(possible, rng) for _ in range(FORCED_TRIALS * len(possible)))
    assert chosen == {operator: FORCED_TRIALS for operator in possible}


@quick
@given(SOME, st.lists(st.tuples(st.sampled_from(OPERATORS), st.booleans())), st.integers(0, 99))
def test_only_possible_operators_and_equal_seeds_equal_choices(
    possible: set[Operator], outcomes: list[tuple[Operator, bool]], seed: int
) -> None:
    histories: list[list[Operator]] = []
    for _ in range(2):
        choice, rng = OperatorChoice(), random.Random(seed)
        for operator, won in outcomes:
            choice.settle(operator, won=won)
        histories.append([choice.choose(possible, rng) for _ in range(12)])
    assert set(histories[0]) <= possible and histories[0] == histories[1]


def _share(operator: Operator, *, stagnant: bool, wins: dict[Operator, int]) -> float:
    rng, count = random.Random(1), 0
    for _ in range(400):
        choice = OperatorChoice()
        for each in OPERATORS:
            for trial in range(10):
                choice.settle(each, won=trial < wins.get(each, 3))
        for _ in range(FORCED_TRIALS * len(OPERATORS)):
            choice.choose(OPERATORS, rng)
        count += choice.choose(OPERATORS, rng, stagnant=stagnant) == operator
    return count / 400


def test_the_operator_whose_children_win_is_chosen_most() -> None:
    assert _share("condense", stagnant=False, wins={"condense": 9}) > 0.8


def test_a_stagnation_favours_exploring() -> None:
    assert _share("explore", stagnant=True, wins={}) > _share("explore", stagnant=False, wins={})


def test_without_a_possible_operator_there_is_no_choice() -> None:
    with pytest.raises(ValueError):
        OperatorChoice().choose((), random.Random(0))
