"""The pool: which arms are active, waiting and retired, and that nobody is shut out for ever."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pools import SCALE, play, seeds

from bigpe.agents.bandit.policies import PolicyConfig, make_policy, selection_rng
from bigpe.agents.bandit.pool import POOL_GROWTH_FACTOR, Pool, PoolDelta
from bigpe.services.core.values import Instruction

quick = settings(deadline=None, derandomize=True, max_examples=25)
UCB1 = make_policy(PolicyConfig())

RUNS = {
    "size": st.integers(2, 6),
    "batch": st.integers(1, 5),
    "flight": st.integers(1, 6),
    "spread": st.sampled_from([0.0, 0.02, 0.5]),
    "seed": st.integers(0, 10**6),
}


@given(name=st.sampled_from(("ucb1", "greedy", "epsilon-greedy")), **RUNS)
@quick
def test_newcomers_are_never_blocked_for_long_and_the_leader_never_displaced(
    name: str, size: int, batch: int, flight: int, spread: float, seed: int
) -> None:
    trace = play(
        name=name, size=size, batch=batch, flight=flight, spread=spread, seed=seed, rounds=60
    )
    assert trace.longest_block <= 2 * size
    assert trace.leaders_lost == 0
    assert max(trace.sizes) <= size
    assert all(len(delta.admitted) <= 1 for delta in trace.deltas)


@given(**RUNS)
@quick
def test_half_of_the_pulls_are_of_arms_tried_before_in_the_end(
    size: int, batch: int, flight: int, spread: float, seed: int
) -> None:
    trace = play(size=size, batch=batch, flight=flight, spread=spread, seed=seed, rounds=120)
    assert len(trace.pulls) == 120
    assert trace.repeats >= 60
    # and yet newcomers keep coming, as fast as the growth rule allows when nothing blocks them
    admitted = sum(len(delta.admitted) for delta in trace.deltas)
    assert 4 <= admitted <= math.ceil(POOL_GROWTH_FACTOR * math.sqrt(121)) - 2


@given(name=st.sampled_from(("ucb1", "random", "paper")), loss=st.sampled_from([0, 0.3]), **RUNS)
@quick
def test_the_same_history_makes_the_same_pool(
    name: str, loss: float, size: int, batch: int, flight: int, spread: float, seed: int
) -> None:
    first, second = (
        play(name=name, loss=loss, size=size, batch=batch, flight=flight, spread=spread, seed=seed)
        for _ in range(2)
    )
    assert first.pool.rows() == second.pool.rows()
    assert first.deltas == second.deltas
    assert 1 <= min(first.sizes) and max(first.sizes) <= size


@given(name=st.sampled_from(("ucb1", "paper")), again=st.sampled_from([0, 12]), **RUNS)
@quick
def test_every_instruction_ever_admitted_keeps_its_record_and_none_returns(
    name: str, again: int, size: int, batch: int, flight: int, spread: float, seed: int
) -> None:
    trace = play(
        name=name, again=again, size=size, batch=batch, flight=flight, spread=spread, seed=seed,
        rounds=80,
    )  # fmt: skip
    admitted = [id for delta in trace.deltas for id in delta.admitted]
    ids = [row.instruction.id for row in trace.pool.rows()]
    assert ids == [*(seed.id for seed in seeds()), *admitted]
    assert len(set(ids)) == len(ids)
    for row in trace.pool.rows():
        assert not trace.pool.propose(row.instruction, parent=ids[0], round=81, gradient_mid="m")


def test_a_retired_instruction_may_be_the_best() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2, admission="paper")
    settled(pool, (a, [0.5, 0.6]), (b, [0.1, 0.2]))
    parent = a
    for index in range(9):
        parent = propose(pool, f"child {index}", parent)
        settled(pool)
        settled(pool, (parent, [0.1, 0.3]))
    assert pool.best().instruction == a
    assert pool.best().state.startswith("retired")


@given(**RUNS)
@quick
def test_paper_mode_lets_every_proposal_in_at_its_parents_place(
    size: int, batch: int, flight: int, spread: float, seed: int
) -> None:
    trace = play(name="paper", size=size, batch=batch, flight=flight, spread=spread, seed=seed)
    assert all(len(delta.admitted) == 1 and delta.waiting == 0 for delta in trace.deltas)
    living = {instruction.id for instruction in trace.pool.living()}
    parents = {row.parent for row in trace.pool.rows() if row.parent}
    assert not living & parents
    assert max(trace.sizes) <= size


def settled(pool: Pool, *results: tuple[Instruction, Sequence[float]]) -> PoolDelta:
    """Pull each instruction once with these gains (a prompt each), then end the round."""
    for index, (instruction, gains) in enumerate(results):
        number = 1000 * len(pool.rows()) + index
        pool.start_pull(instruction.id, number, len(gains))
        named = [(f"p{i}", gain) for i, gain in enumerate(gains)]
        pool.finish_pull(instruction.id, number, named)
    return pool.settle(UCB1, SCALE)


def propose(pool: Pool, text: str, parent: Instruction) -> Instruction:
    child = Instruction(text=text)
    assert pool.propose(child, parent=parent.id, round=1, gradient_mid="m")
    return child


def test_the_growth_rule_counts_arms_ever_admitted_against_finished_pulls() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=4, pool_growth_factor=2)
    child = propose(pool, "child", a)
    assert pool.settle(UCB1, SCALE) == PoolDelta((), (), 1)  # ceil(2 sqrt 1) = 2 are here
    assert settled(pool, (a, [0.01, 0.02])).admitted == (child.id,)  # ceil(2 sqrt 2) = 3
    assert [instruction.text for instruction in pool.living()] == ["seed 0", "seed 1", "child"]
    row = pool.rows()[-1]
    assert (row.parent, row.born_round, row.pulls, row.mean) == (a.id, 1, 0, None)


def test_an_instruction_is_admitted_once() -> None:
    a, b = seeds()
    pool = Pool([a, b, a], size=4)
    assert len(pool.living()) == 2
    assert not pool.propose(b, parent=a.id, round=1, gradient_mid="m")
    propose(pool, "child", a)
    assert not pool.propose(Instruction(text="child"), parent=b.id, round=2, gradient_mid="m")


def test_of_those_waiting_the_child_of_the_best_parent_enters_and_the_backlog_is_bounded() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    for index in range(20):
        propose(pool, f"poor {index}", a)
    rich = propose(pool, "rich", b)
    delta = settled(pool, (a, [0.01] * 3), (a, [0.02] * 3), (b, [0.3] * 3))
    assert delta.admitted == (rich.id,)
    assert [gone for gone, _ in delta.retired] == [a.id]
    assert delta.waiting == 8


def test_displacement_spares_the_leader_arms_in_flight_and_arms_never_pulled() -> None:
    a, b, c = seeds(3)
    pool = Pool([a, b, c], size=3)
    settled(pool, (a, [0.05, 0.06]), (a, [0.05]), (b, [0.03, 0.04]), (b, [0.04]))
    child = propose(pool, "child", a)
    pool.start_pull(b.id, 7, 3)
    assert settled(pool).admitted == ()
    pool.finish_pull(b.id, 7, [("p9", 0.03)])
    delta = settled(pool)
    assert delta.admitted == (child.id,)
    assert delta.retired[0][0] == b.id and child.id[:8] in delta.retired[0][1]
    assert "retired: lowest upper bound" in pool.rows()[1].state


def test_the_lowest_upper_bound_gives_way_and_not_while_a_lost_arm_has_a_pull_in_flight() -> None:
    a, b, c = seeds(3)
    pool = Pool([a, b, c], size=3)
    propose(pool, "child", a)
    existing = [(a, [0.05] * 3), (b, [0.03] * 3), (c, [0.01] * 3)]
    delta = settled(pool, *existing, *existing)
    assert [gone for gone, _ in delta.retired] == [c.id]
    pool = Pool([a, b], size=2)
    pool.start_pull(a.id, 1, 3)
    assert settled(pool, (a, []), (a, []), (b, [0.1])).retired == ()
    pool.finish_pull(a.id, 1, [("p", 0.1)])
    assert settled(pool).retired == ()


def test_one_pull_is_enough_against_an_arm_that_cannot_be_the_best() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    propose(pool, "child", a)
    delta = settled(pool, (a, [0.5, 0.6, 0.7]), (b, [-0.9, -0.8, -0.9]))
    assert [gone for gone, _ in delta.retired] == [b.id]


def test_two_pulls_without_any_result_retire_an_arm_but_never_the_last() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    assert settled(pool, (a, []), (b, [])).retired == ()
    assert settled(pool, (a, []), (b, [])).retired == ((a.id, "2 pulls gave no result"),)
    assert settled(pool, (b, [])).retired == ()
    assert [instruction.id for instruction in pool.living()] == [b.id]


def test_an_arm_with_one_lost_pull_is_pulled_again() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    settled(pool, (a, [0.5] * 9), (b, []))
    assert UCB1.select(pool.arms(), SCALE, selection_rng(0, 1)) == b.id
    settled(pool, (b, [0.1]))
    assert {row.state for row in pool.rows()} == {"living"}


def test_pulls_in_flight_are_in_the_arms_and_their_results_outlive_a_retirement() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    pool.start_pull(a.id, 1, 5)
    pool.start_pull(a.id, 2, 5)
    first = pool.arms()[0]
    assert (first.finished_pulls, first.pending_pulls, first.pending_gains) == (0, 2, 10)
    pool.finish_pull(a.id, 2, [("p", 0.1), ("q", 0.2)])
    first = pool.arms()[0]
    assert (first.gains.n, first.finished_pulls, first.pending_gains) == (2, 1, 5)
    assert first.mean == pytest.approx(0.15)
    with pytest.raises(KeyError):
        pool.finish_pull(a.id, 2, [])
    with pytest.raises(KeyError):
        pool.start_pull("nobody", 3, 1)


def test_the_best_has_the_highest_lower_bound_of_arms_with_two_gains() -> None:
    a, b, c = seeds(3)
    pool = Pool([a, b, c], size=3)
    assert pool.best().instruction == a
    settled(pool, (b, [0.2]))
    assert pool.best().instruction == b
    settled(pool, (a, [0.10, 0.11, 0.12, 0.11]), (c, [-0.4, 0.9]))
    assert pool.best().instruction == a
    lucky = Pool([a, b], size=2)
    settled(lucky, (a, [0.10, 0.11, 0.12, 0.11]), (b, [0.9]))
    assert lucky.best().instruction == a
    row = pool.best()
    assert row.lo is not None and row.mean is not None and row.hi is not None
    assert row.lo < row.mean < row.hi


def test_a_lower_bound_of_exactly_zero_is_above_a_negative_one() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    settled(pool, (a, [-0.1, -0.1]), (b, [0.0, 0.0]))
    assert pool.best().lo == 0.0
    assert pool.best().instruction == b
    propose(pool, "child", a)
    assert [gone for gone, _ in settled(pool, (a, [-0.1]), (b, [0.0])).retired] == [a.id]


def test_repeats_of_a_prompt_do_not_narrow_the_interval() -> None:
    a, b = seeds()
    pool = Pool([a, b], size=2)
    pool.start_pull(a.id, 1, 4)
    pool.finish_pull(a.id, 1, [("p", 0.1), ("q", 0.3)])
    once = pool.rows()[0]
    pool.start_pull(a.id, 2, 4)
    pool.finish_pull(a.id, 2, [("p", 0.1), ("q", 0.3)] * 5)
    again = pool.rows()[0]
    assert (once.mean, once.lo, once.hi) == pytest.approx((again.mean, again.lo, again.hi))
    assert pool.noise().df == 10, "six gains at each of two prompts"


def test_a_pool_that_compares_nothing_is_refused() -> None:
    for wrong, size in (([], 4), (seeds(), 1)):
        with pytest.raises(ValueError, match="compares nothing"):
            Pool(wrong, size=size)


def test_more_seeds_than_places_all_live_until_newcomers_take_their_places() -> None:
    many = seeds(5)
    pool = Pool(many, size=3)
    for _ in range(2):
        settled(pool, *((first, [0.01 * i, 0.01 * i]) for i, first in enumerate(many)))
    child = propose(pool, "child", many[0])
    assert settled(pool).admitted == (child.id,)
    assert len(pool.living()) == 5
