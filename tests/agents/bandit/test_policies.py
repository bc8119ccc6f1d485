"""Policies: what they must do on every history, and what they learn in simulation."""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bigpe.agents.bandit.arm_view import Arm
from bigpe.agents.bandit.policies import (
    POLICIES,
    KlUcb,
    Paper,
    Policy,
    PolicyConfig,
    Thompson,
    Ucb1,
    UcbTuned,
    make_policy,
    selection_rng,
)
from bigpe.agents.statistics.moments import RunningMoments

NAMES = tuple(POLICIES)
BY_BOUND = ("ucb1", "ucb-tuned", "kl-ucb", "paper", "greedy")
BOUNDED = (*BY_BOUND, "epsilon-greedy", "thompson")
quick = settings(deadline=None, derandomize=True, max_examples=60)

GAINS = st.floats(-0.1, 0.1, allow_subnormal=False)


def arm_of(
    id: str, gains: Sequence[float] = (), finished: int = 0, pending: int = 0, expected: int = 0
) -> Arm:
    return Arm(id, RunningMoments().plus(gains), finished, pending, expected)


@st.composite
def histories(draw: st.DrawFn) -> list[Arm]:
    """Arms with any mixture of finished, lost and pending pulls."""
    arms: list[Arm] = []
    for index in range(draw(st.integers(1, 6))):
        batches = draw(st.lists(st.lists(GAINS, max_size=3), max_size=3))
        pending = draw(st.integers(0, 2))
        gains = tuple(gain for batch in batches for gain in batch)
        arms.append(arm_of(f"arm{index}", gains, len(batches), pending, 5 * pending))
    return arms


def simulate(
    policy: Policy,
    means: Sequence[float],
    *,
    pulls: int,
    batch: int = 5,
    flight: int = 1,
    seed: int = 0,
    noise: float = 0.01,
) -> tuple[list[str], dict[str, Arm]]:
    """Pull `pulls` times with `flight` pulls in the air; results come in order."""
    arms = {f"arm{i}": Arm(f"arm{i}") for i in range(len(means))}
    nature = random.Random(seed)
    chosen: list[str] = []
    in_flight: deque[str] = deque()
    for index in range(pulls):
        if len(in_flight) == flight:
            land(arms, in_flight.popleft(), means, batch, noise, nature)
        pick = policy.select(list(arms.values()), noise, selection_rng(seed, index))
        arm = arms[pick]
        arms[pick] = replace(
            arm, pending_pulls=arm.pending_pulls + 1, pending_gains=arm.pending_gains + batch
        )
        in_flight.append(pick)
        chosen.append(pick)
    while in_flight:
        land(arms, in_flight.popleft(), means, batch, noise, nature)
    return chosen, arms


def land(
    arms: dict[str, Arm],
    pick: str,
    means: Sequence[float],
    batch: int,
    noise: float,
    nature: random.Random,
) -> None:
    arm, mean = arms[pick], means[int(pick.removeprefix("arm"))]
    arms[pick] = replace(
        arm,
        gains=arm.gains.plus(nature.gauss(mean, noise) for _ in range(batch)),
        finished_pulls=arm.finished_pulls + 1,
        pending_pulls=arm.pending_pulls - 1,
        pending_gains=arm.pending_gains - batch,
    )


# -- on every history ---------------------------------------------------------------------------


@given(histories(), st.sampled_from(NAMES), st.integers(0, 10**6))
@quick
def test_a_choice_is_an_arm_and_depends_on_nothing_else(
    arms: list[Arm], name: str, seed: int
) -> None:
    policy = make_policy(PolicyConfig(name=name))
    first, second = (policy.select(arms, 0.01, selection_rng(seed, 3)) for _ in range(2))
    assert first == second
    assert first in {arm.id for arm in arms}
    assert not any(math.isnan(policy.upper_bound(arm, arms, 0.01)) for arm in arms)


@given(histories(), st.sampled_from(BY_BOUND), st.integers(0, 10**6))
@quick
def test_untried_arms_come_first_in_order_and_pending_ones_count_as_tried(
    arms: list[Arm], name: str, seed: int
) -> None:
    policy = make_policy(PolicyConfig(name=name))
    untried = [a.id for a in arms if a.finished_pulls + a.pending_pulls == 0]
    pick = policy.select(arms, 0.01, selection_rng(seed, 0))
    if untried:
        assert pick == untried[0]
    else:
        top = max(policy.upper_bound(arm, arms, 0.01) for arm in arms)
        assert policy.upper_bound(next(a for a in arms if a.id == pick), arms, 0.01) == top


@given(histories(), st.sampled_from(NAMES), st.randoms(use_true_random=False))
@quick
def test_the_order_of_tried_arms_means_nothing(
    arms: list[Arm], name: str, rng: random.Random
) -> None:
    tried = [arm for arm in arms if arm.tried] or [replace(arms[0], finished_pulls=1)]
    shuffled = [*reversed(tried)] if rng.random() < 0.5 else rng.sample(tried, len(tried))
    policy = make_policy(PolicyConfig(name=name, epsilon=0.5))
    for index in range(5):
        assert policy.select(tried, 0.01, selection_rng(1, index)) == policy.select(
            shuffled, 0.01, selection_rng(1, index)
        )


@given(histories(), st.sampled_from([n for n in NAMES if n != "paper"]), st.integers(-8, 8))
@quick
def test_the_unit_of_the_score_means_nothing(arms: list[Arm], name: str, power: int) -> None:
    unit = 2.0**power
    scaled = [
        replace(
            arm,
            gains=arm.gains._replace(
                mean=unit * arm.gains.mean, squares=unit**2 * arm.gains.squares
            ),
        )
        for arm in arms
    ]
    policy = make_policy(PolicyConfig(name=name))
    assert policy.select(arms, 0.01, selection_rng(2, 1)) == policy.select(
        scaled, unit * 0.01, selection_rng(2, 1)
    )


@given(histories(), st.integers(1, 20))
@quick
def test_a_pending_pull_lowers_its_own_bound_and_raises_the_others(
    arms: list[Arm], expected: int
) -> None:
    arms = [arm_of("first", (0.01, 0.02), 1), arm_of("other", (0.0,), 1), *arms]
    more = [replace(arms[0], pending_pulls=1, pending_gains=expected), *arms[1:]]
    for policy in (Ucb1(), Paper()):
        before, after = (policy.upper_bound(a[0], a, 0.01) for a in (arms, more))
        assert after < before
        assert policy.upper_bound(arms[1], more, 0.01) > policy.upper_bound(arms[1], arms, 0.01)


def test_ucb1_is_its_formula_over_gains() -> None:
    arms = [arm_of("a", (0.02, 0.04), 1), arm_of("b", (0.01,), 1, 1, 3), arm_of("c", (), 0, 1, 2)]
    t = 2 + 4 + 2
    assert Ucb1().upper_bound(arms[0], arms, 0.01) == pytest.approx(3 + math.sqrt(math.log(t)))
    assert Ucb1(0.5).upper_bound(arms[1], arms, 0.01) == pytest.approx(
        1 + 0.5 * math.sqrt(2 * math.log(t) / 4)
    )
    assert Ucb1().upper_bound(arms[2], arms, 0.01) == pytest.approx(math.sqrt(math.log(t)))


def test_paper_is_its_formula_over_pulls_on_the_display_scale() -> None:
    arms = [arm_of("a", (0.02, 0.04), 1, 1, 2), arm_of("b", (0.01,) * 9, 3)]
    found = Paper().upper_bound(arms[0], arms, 123.0)
    assert found == pytest.approx(3.0 + 0.8 * math.sqrt(math.log(5) / 2))
    assert Paper().select(arms, 1.0, selection_rng(0, 0)) == "a"


def test_ucb_tuned_is_its_formula_on_halved_rewards_doubled() -> None:
    result = [(0.02, 0.021, 0.019, 0.02) * 50, (0.01, -0.03)]
    arms = [arm_of("a", result[0], 40), arm_of("b", result[1], 1, 1, 3)]
    log_t = math.log(200 + 5)
    for arm, gains in zip(arms, result, strict=True):
        halved = [gain / 0.02 for gain in gains]
        mean = sum(halved) / len(halved)
        variance = sum(x * x for x in halved) / len(halved) - mean**2
        wanted = mean + math.sqrt(
            log_t / arm.count * min(0.25, variance + math.sqrt(2 * log_t / arm.count))
        )
        assert UcbTuned().upper_bound(arm, arms, 0.01) == pytest.approx(2 * wanted)
    steady, wild = (UcbTuned().upper_bound(arm, arms, 0.01) for arm in arms)
    assert steady < 2.0 + math.sqrt(2 * log_t / 200), "a steady arm needs less exploring"
    assert wild < math.inf


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200))
@quick
def test_kl_ucb_is_the_largest_chance_that_the_wins_allow(wins: int, losses: int, t: int) -> None:
    arm = arm_of("a", (0.01,) * wins + (-0.3,) * losses + (0.0,), 1)
    arms = [arm, arm_of("b", (0.0,) * (t + 1), 1)]
    n = wins + losses + 1
    share = (wins + 0.5) / n
    bound = KlUcb().upper_bound(arm, arms, 0.01)
    assert share <= bound < 1

    def cost(q: float) -> float:
        return n * (share * math.log(share / q) + (1 - share) * math.log((1 - share) / (1 - q)))

    allowed = math.log(n + t + 1)
    assert cost(bound - 1e-8) <= allowed <= cost(min(bound + 1e-6, 1 - 1e-12)) + 1e-9
    # Pinsker: never above what the same wins are allowed by a bound for any reward in [0, 1].
    assert bound <= share + math.sqrt(allowed / (2 * n)) + 1e-8


def test_thompson_draws_from_the_posterior_of_the_gains_and_the_rng_alone() -> None:
    gains = {"a": (0.01, 0.03, 0.02), "b": (0.02, -0.01)}
    arms = [arm_of(id, expected, 1) for id, expected in gains.items()]
    picks = [Thompson().select(arms, 0.01, selection_rng(3, index)) for index in range(400)]
    again = [Thompson().select(arms, 0.01, selection_rng(3, index)) for index in range(400)]
    assert picks == again
    # Means in units of noise: a 6/4 of variance ~ 0.9/4, b 1/3 of variance ~ 2.2/3: by the normal
    # approximation a is the better one with probability 0.88.
    assert 0.8 < picks.count("a") / 400 < 0.96
    sure = [arm_of(id, expected * 100, 1) for id, expected in gains.items()]
    assert {Thompson().select(sure, 0.01, selection_rng(3, i)) for i in range(200)} == {"a"}


@given(histories(), st.sampled_from([n for n in NAMES if n != "paper"]), st.integers(1, 9))
@quick
def test_how_gains_were_batched_means_nothing(arms: list[Arm], name: str, pulls: int) -> None:
    tried = [arm for arm in arms if arm.gains.n] or [arm_of("x", (0.01,), 1)]
    other = [replace(arm, finished_pulls=pulls + i) for i, arm in enumerate(tried)]
    policy = make_policy(PolicyConfig(name=name))
    for index in range(3):
        assert policy.select(tried, 0.01, selection_rng(4, index)) == policy.select(
            other, 0.01, selection_rng(4, index)
        )
    for arm, same in zip(tried, other, strict=True):
        assert policy.upper_bound(arm, tried, 0.01) == policy.upper_bound(same, other, 0.01)


@given(histories(), st.sampled_from(BY_BOUND))
@quick
def test_a_bound_is_never_below_the_reward_in_its_own_units(arms: list[Arm], name: str) -> None:
    policy = make_policy(PolicyConfig(name=name))
    for arm in arms:
        if arm.gains.n:
            assert policy.upper_bound(arm, arms, 0.01) >= policy.reward(arm, 0.01)


@pytest.mark.parametrize("name", BOUNDED)
def test_an_arm_whose_pull_was_lost_is_asked_again(name: str) -> None:
    policy = make_policy(PolicyConfig(name=name, epsilon=0.0))
    arms = [arm_of("good", (0.5,) * 50, 10), arm_of("lost", (), 1)]
    assert policy.select(arms, 0.01, selection_rng(0, 0)) == "lost"
    assert policy.select([arms[0], replace(arms[1], pending_pulls=1, pending_gains=5)], 0.01,
                         selection_rng(0, 0)) == "good"  # fmt: skip


def test_ties_are_broken_evenly_and_by_the_seed_alone() -> None:
    arms = [arm_of(f"arm{i}", (0.01,), 1) for i in range(4)]
    for name in NAMES:
        policy = make_policy(PolicyConfig(name=name))
        picks = Counter(policy.select(arms, 0.01, selection_rng(7, i)) for i in range(800))
        assert len(picks) == 4 and min(picks.values()) > 140


def test_selection_randomness_is_a_function_of_seed_and_index() -> None:
    assert selection_rng(1, 2).random() == selection_rng(1, 2).random()
    drawn = {selection_rng(seed, index).random() for seed in range(20) for index in range(20)}
    assert len(drawn) == 400


def test_the_configuration_refuses_what_it_does_not_know() -> None:
    assert make_policy(PolicyConfig()) == Ucb1(1.0)
    assert make_policy(PolicyConfig(name="ucb1", exploration=0.0)) == Ucb1(0.0)
    assert make_policy(PolicyConfig(name="paper")) == Paper(0.8)
    for wrong in ({"name": "best"}, {"epsilon": 1.5}, {"exploration": -1}, {"explore": 1}):
        with pytest.raises(ValidationError):
            PolicyConfig.model_validate(wrong)


# -- in simulation ------------------------------------------------------------------------------


@given(
    st.sampled_from(BOUNDED),
    st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=8),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(0, 10**6),
)
@quick
def test_every_arm_is_tried_and_the_same_seed_chooses_the_same(
    name: str, means: list[float], flight: int, batch: int, seed: int
) -> None:
    policy = make_policy(PolicyConfig(name=name))
    runs = [
        simulate(policy, means, pulls=len(means) * 4, flight=flight, batch=batch, seed=seed)[0]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == len(means)


@pytest.mark.parametrize("flight", [1, 4])
@pytest.mark.parametrize("batch", [1, 5])
def test_ucb1s_share_of_the_best_arm_tends_to_one(flight: int, batch: int) -> None:
    means = [0.0, 0.005, -0.01, 0.02]
    shares: list[float] = []
    for pulls in (40, 400):
        best = 0
        for seed in range(6):
            chosen, _ = simulate(Ucb1(), means, pulls=pulls, batch=batch, flight=flight, seed=seed)
            best += chosen.count("arm3")
        shares.append(best / (6 * pulls))
    assert shares[0] < shares[1]
    assert shares[1] > (0.85 if batch == 1 else 0.95)


def test_ucb1_pulls_a_worse_arm_again_and_again_but_ever_less_often() -> None:
    worse = [
        index
        for seed in range(6)
        for index, pick in enumerate(simulate(Ucb1(), [0, 0.005], pulls=600, batch=1, seed=seed)[0])
        if pick == "arm0"
    ]
    early, late = (sum(low <= i < low + 200 for i in worse) for low in (0, 400))
    assert 0 < late < early


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_epsilon_greedys_share_of_the_best_arm_is_at_least_one_less_epsilon(
    epsilon: float,
) -> None:
    policy = make_policy(PolicyConfig(name="epsilon-greedy", epsilon=epsilon))
    late = 0
    for seed in range(5):
        chosen, _ = simulate(policy, [0.0, 0.02, 0.03], pulls=500, seed=seed)
        late += chosen[100:].count("arm2")
    # 2,000 draws: two standard errors are below 0.02.
    assert late / 2000 >= 1 - epsilon - 0.02


@pytest.mark.parametrize("flight", [1, 4])
@pytest.mark.parametrize("name", ["ucb1", "ucb-tuned", "kl-ucb", "thompson"])
def test_regret_is_a_fraction_of_random_choice_and_grows_ever_slower(
    name: str, flight: int
) -> None:
    means = [0.0, 0.005, -0.01, 0.015]

    def regret(policy: Policy, pulls: range) -> float:
        lost = 0.0
        for seed in range(6):
            chosen, _ = simulate(policy, means, pulls=pulls.stop, flight=flight, seed=seed)
            lost += sum(max(means) - means[int(pick[3:])] for pick in chosen[pulls.start :])
        return lost / 6

    learner, chance = (make_policy(PolicyConfig(name=n)) for n in (name, "random"))
    assert regret(learner, range(0, 200)) < 0.25 * regret(chance, range(0, 200))
    assert regret(learner, range(150, 200)) < 0.5 * regret(learner, range(0, 50))


def test_random_is_uniform_and_greedy_stays_with_the_leader() -> None:
    chosen, _ = simulate(make_policy(PolicyConfig(name="random")), [0, 0.1, 0.2], pulls=600)
    assert all(150 < count < 250 for count in Counter(chosen).values())
    chosen, _ = simulate(make_policy(PolicyConfig(name="greedy")), [0, 0.1, 0.2], pulls=100)
    assert chosen[3:] == ["arm2"] * 97


def test_names_of_arms_do_not_favour_any() -> None:
    """Equal arms are pulled equally often in the long run, whatever they are called."""
    total: Counter[str] = Counter()
    for seed in range(200):
        chosen, _ = simulate(Ucb1(), [0.0] * 4, pulls=40, seed=seed)
        total.update(chosen)
    assert all(count == pytest.approx(2000, rel=0.15) for count in total.values())
