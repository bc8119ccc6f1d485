"""The policy of good proposals: the child of the best first, the child of a weak one never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from bigpe.agents.bandit.arm_view import Arm
from bigpe.agents.bandit.lineage import DRIFT, Lineage, posterior
from bigpe.agents.bandit.policies import PolicyConfig, make_policy, selection_rng
from bigpe.agents.bandit.pool import Pool
from bigpe.agents.statistics.moments import RunningMoments
from bigpe.services.core.values import Instruction

SCALE = 0.08
gains = st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=8)


def arm(id: str, *values: float, parents: tuple[RunningMoments, ...] = ()) -> Arm:
    found = RunningMoments().plus(values)
    return Arm(id=id, gains=found, finished_pulls=int(bool(values)), ancestors=parents)


def choice(*arms: Arm) -> str:
    return Lineage().select(arms, SCALE, selection_rng(0, 1))


def child(id: str, parent: Arm) -> Arm:
    return arm(id, parents=(parent.gains, *parent.ancestors))


def test_the_newest_child_of_the_best_comes_first() -> None:
    good, weak = arm("good", *[0.06] * 4), arm("weak", *[-0.06] * 4)
    seed = arm("untried seed")
    arms = (weak, good, seed, child("of weak", weak), child("old", good), child("new", good))
    assert choice(*arms) == "new"


def test_seeds_are_tried_in_order_while_none_promises_more() -> None:
    weak = arm("weak", *[-0.1] * 4)
    first, second = arm("first"), arm("second")
    assert choice(first, second) == "first"
    assert choice(weak, first, second, child("of weak", weak)) == "first"


def test_a_good_instruction_is_measured_again_when_its_children_fail() -> None:
    good = arm("good", *[0.12] * 4)
    children = [arm(f"child {i}", *[-0.04] * 4, parents=(good.gains,)) for i in range(3)]
    assert choice(good, *children) == "good"


@examples(40)
@given(gains, gains, st.integers(1, 9))
def test_a_child_starts_at_the_posterior_of_its_parent_plus_the_drift(
    of_parent: list[float], own: list[float], pending: int
) -> None:
    parent = arm("parent", *of_parent)
    before, after = (posterior(a, SCALE) for a in (parent, child("child", parent)))
    assert after.mean == before.mean + DRIFT and after.variance > before.variance
    tried = arm("tried", *own, parents=(parent.gains,))
    measured = posterior(tried, SCALE)
    low, high = sorted((after.mean, tried.mean / SCALE))
    assert low - 1e-9 <= measured.mean <= high + 1e-9 and measured.variance < after.variance
    flying = Arm(id="f", pending_pulls=1, pending_gains=pending, ancestors=(parent.gains,))
    expected = posterior(flying, SCALE)
    assert abs(expected.mean - after.mean) < 1e-9 and expected.variance < after.variance


def test_its_pool_takes_every_proposal_and_gives_up_the_least_promising_untried() -> None:
    seeds = [Instruction(text=text) for text in ("Good.", "Weak.")]
    pool = Pool(seeds, size=3, admission="all")
    policy = make_policy(PolicyConfig(name="lineage"))
    for index, (seed, gain) in enumerate(zip(seeds, (0.1, -0.1), strict=True), start=1):
        pool.start_pull(seed.id, index, 3)
        pool.finish_pull(seed.id, index, [(f"p{i}", gain + i / 100) for i in range(3)])
    for parent, text in ((0, "Better."), (0, "Other."), (1, "Hopeless.")):
        pool.propose(Instruction(text=text), parent=seeds[parent].id, round=2, gradient_mid="")
    delta = pool.settle(policy, SCALE)
    assert len(delta.admitted) == 3 and delta.waiting == 0
    assert {item.text for item in pool.living()} == {"Good.", "Better.", "Other."}
    assert pool.has_room(10**6)


def test_the_best_is_judged_by_its_lineage() -> None:
    good, lucky = Instruction(text="Good."), Instruction(text="Lucky.")
    child = Instruction(text="A child of good.")
    pool = Pool([good, lucky], size=3, admission="all")
    policy = make_policy(PolicyConfig(name="lineage"))
    pulls = ((good, [0.1] * 8), (lucky, [-0.1] * 4), (child, [0.09, 0.1, 0.11, 0.12]))
    for index, (item, values) in enumerate(pulls, start=1):
        pool.start_pull(item.id, index, len(values))
        gains = [(f"p{i}", value + i / 1000) for i, value in enumerate(values)]
        pool.finish_pull(item.id, index, gains)
        if item == lucky:
            pool.propose(child, parent=good.id, round=2, gradient_mid="")
        pool.settle(policy, SCALE)
    assert pool.best().instruction == child
    rows = {row.instruction.text: row for row in pool.rows()}
    assert (rows["Good."].lo or 0) > (rows["A child of good."].lo or 1), "its own bound is lower"
