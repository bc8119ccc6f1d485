"""The evidence table: it finds what was planted, and little where nothing was."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from support.work_counters import lines_run, peak_bytes

from bigpe.agents.evidence import mixed_model as evidence
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison, fit_evidence_table

quick = settings(deadline=None, derandomize=True, max_examples=25)


def world(
    seed: int,
    effects: dict[str, float],
    *,
    count: int = 120,
    prompts: int = 25,
    arms: int = 6,
    noise: float = 0.01,
    per_rewrite: int = 4,
) -> list[PairedComparison]:
    """Pairs whose gains are prompt + arm + the effects of their terms + noise."""
    rng = random.Random(seed)
    by_prompt = [rng.gauss(0, 0.02) for _ in range(prompts)]
    by_arm = [rng.gauss(0, 0.003) for _ in range(arms)]
    pairs: list[PairedComparison] = []
    for index in range(count):
        prompt, arm = rng.randrange(prompts), rng.randrange(arms)
        terms = rng.sample(sorted(effects), min(per_rewrite, len(effects)))
        gain = by_prompt[prompt] + by_arm[arm] + sum(effects[t] for t in terms)
        pairs.append(
            PairedComparison(
                naive=f"thing{prompt}",
                rewrite=", ".join([f"thing{prompt}", *terms]),
                seed=index,
                gain=gain + rng.gauss(0, noise),
                arm=f"arm{arm}",
            )
        )
    return pairs


def by_term(rows: tuple[EvidenceRow, ...]) -> dict[str, EvidenceRow]:
    return {row.term: row for row in rows}


NOTHING = {f"q{i}": 0.0 for i in range(12)}
PLANTED = NOTHING | {"golden": 0.05, "misty": 0.025, "blurry": -0.04}


@given(st.integers(0, 10**6))
@quick
def test_planted_effects_have_their_sign_their_rank_and_cover_the_truth(seed: int) -> None:
    rows = by_term(fit_evidence_table(world(seed, PLANTED), max_rows=99))
    assert rows["golden"].lo > 0 > rows["blurry"].hi
    assert rows["golden"].effect > rows["misty"].effect > rows["blurry"].effect
    assert all(rows["misty"].effect > rows[f"q{i}"].effect for i in range(12))
    first = fit_evidence_table(world(seed, PLANTED), max_rows=2)
    assert {row.term for row in first} == {"golden", "blurry"}


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rows = [
        (row, PLANTED[row.term])
        for seed in range(40)
        for row in fit_evidence_table(world(seed, PLANTED), max_rows=99)
        if row.term in PLANTED
    ]
    covered = sum(row.lo <= truth <= row.hi for row, truth in rows) / len(rows)
    assert 0.91 <= covered <= 1.0


@pytest.mark.parametrize(("count", "arms"), [(5, 1), (20, 4), (120, 6)])
def test_pure_noise_seldom_looks_like_an_effect(count: int, arms: int) -> None:
    rows = [
        row
        for seed in range(60)
        for row in fit_evidence_table(world(seed, NOTHING, count=count, arms=arms), max_rows=99)
        if row.kind == "term"
    ]
    false = sum(not row.lo <= 0 <= row.hi for row in rows) / len(rows)
    assert len(rows) > 100
    assert false <= 0.06


def test_few_pairs_are_shrunk_more_than_many() -> None:
    effects = NOTHING | {"golden": 0.05}
    found: dict[int, list[float]] = {12: [], 200: []}
    for count, effects_found in found.items():
        for seed in range(20):
            rows = by_term(fit_evidence_table(world(seed, effects, count=count), max_rows=99))
            effects_found += [rows["golden"].effect] if "golden" in rows else []
    few, many = (float(np.mean(found[count])) for count in (12, 200))
    assert 0 < few < many
    assert many == pytest.approx(0.05, abs=0.008)


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
@quick
def test_order_repetition_and_fallbacks_change_nothing(seed: int, rng: random.Random) -> None:
    pairs = world(seed, PLANTED, count=40)
    fallback = PairedComparison(naive="x", rewrite="x", seed=1, gain=0.0, arm="arm0", fallback=True)
    shuffled = [*pairs, *rng.sample(pairs, 7), fallback]
    rng.shuffle(shuffled)
    assert fit_evidence_table(shuffled) == fit_evidence_table(pairs)


@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 250.0]), st.floats(-0.1, 0.1))
@quick
def test_effects_follow_the_unit_and_not_the_zero_of_the_score(
    seed: int, unit: float, shift: float
) -> None:
    pairs = world(seed, PLANTED, count=60)
    moved = [p.model_copy(update={"gain": unit * (p.gain + shift)}) for p in pairs]
    before, after = (
        by_term(fit_evidence_table(pairs, max_rows=99)),
        by_term(fit_evidence_table(moved, max_rows=99)),
    )
    assert before.keys() == after.keys()
    for term, row in before.items():
        assert after[term].effect == pytest.approx(unit * row.effect, rel=1e-5, abs=1e-8 * unit)
        assert after[term].lo == pytest.approx(unit * row.lo, rel=1e-5, abs=1e-8 * unit)


@given(st.integers(0, 10**6))
@quick
def test_names_of_arms_and_prompts_mean_nothing(seed: int) -> None:
    pairs = world(seed, PLANTED, count=40)
    renamed = [
        p.model_copy(
            update={
                "arm": p.arm.replace("arm", "z")[::-1],
                "naive": p.naive.replace("thing", "item"),
                "rewrite": p.rewrite.replace("thing", "item"),
            }
        )
        for p in pairs
    ]
    before, after = (
        by_term(fit_evidence_table(pairs, max_rows=99)),
        by_term(fit_evidence_table(renamed, max_rows=99)),
    )
    assert before.keys() == after.keys()
    for term, row in before.items():
        assert after[term].effect == pytest.approx(row.effect, rel=1e-5, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 6))
@quick
def test_the_table_has_the_shape_it_promises(seed: int, count: int, batch: int) -> None:
    pairs = world(seed, PLANTED, count=count, arms=max(1, count // batch))
    rows = fit_evidence_table(pairs, max_rows=7, min_count=3)
    every = fit_evidence_table(pairs, max_rows=999, min_count=3)
    assert rows == every[:7]
    assert [row.id for row in every] == [f"E{i}" for i in range(1, len(every) + 1)]
    for row in every:
        assert np.isfinite([row.effect, row.lo, row.hi]).all()
        assert row.lo <= row.effect <= row.hi
        assert row.n >= (3 if row.kind == "term" else 2)
        assert 1 <= row.arms <= row.n
        assert row.confounded == (row.arms == 1)
    certainty = [abs(row.effect) / (row.hi - row.lo) for row in every]
    assert certainty == sorted(certainty, reverse=True) or np.allclose(
        certainty, sorted(certainty, reverse=True), rtol=1e-5
    )


def pair(rewrite: str, gain: float, **more: object) -> PairedComparison:
    values: dict[str, object] = {"naive": "cat", "seed": 1, "arm": "a"}
    return PairedComparison.model_validate(values | {"rewrite": rewrite, "gain": gain} | more)


def test_too_little_to_compare_gives_no_rows() -> None:
    assert fit_evidence_table([]) == ()
    assert fit_evidence_table([pair("cat, golden", 0.1)]) == ()
    assert fit_evidence_table([pair("cat, golden", 0.1, fallback=True)] * 3) == ()
    assert fit_evidence_table([pair("cat, golden", 0.1, seed=s) for s in (1, 2, 3)]) == ()


def test_two_pairs_are_enough_for_a_row_but_prove_nothing() -> None:
    rows = fit_evidence_table([pair("cat, golden", 0.1), pair("cat", 0.0, seed=2)], min_count=1)
    assert by_term(rows)["golden"].lo < 0 < by_term(rows)["golden"].hi


def test_equal_gains_show_no_effect() -> None:
    pairs = [pair("cat, golden" if s % 2 else "cat", 0.25, seed=s) for s in range(8)]
    assert all(row.effect == pytest.approx(0, abs=1e-9) for row in fit_evidence_table(pairs))
    silent = [p.model_copy(update={"gain": 0.0}) for p in pairs]
    assert all(row.lo <= 0 <= row.hi for row in fit_evidence_table(silent))


def test_batches_of_one_prompt_contrast_with_its_earlier_rewrites() -> None:
    pairs = [
        pair(f"cat, {'golden' if s % 2 else 'misty'}", 0.05 * (s % 2) + s / 1e4, seed=s)
        for s in range(8)
    ]
    rows = by_term(fit_evidence_table(pairs))
    assert rows["golden"].effect > 0 > rows["misty"].effect
    assert rows["golden"].confounded


def test_terms_that_always_stand_together_are_one_row_the_longest() -> None:
    pairs = [
        pair("cat, golden hour light" if s % 2 else "cat, misty", 0.1 * (s % 2), seed=s)
        for s in range(6)
    ]
    assert {row.term for row in fit_evidence_table(pairs)} == {
        "golden hour light",
        "misty",
        "length",
    }


def test_a_term_of_one_arm_is_confounded_and_professional_is_an_arm() -> None:
    pairs = [pair("cat, golden", 0.1, seed=s) for s in range(3)]
    pairs += [pair("cat, misty", 0.0, seed=s, arm="b") for s in range(3)]
    assert by_term(fit_evidence_table(pairs))["golden"].confounded
    pairs.append(pair("cat, golden", 0.1, seed=9, arm="professional"))
    golden = by_term(fit_evidence_table(pairs))["golden"]
    assert (golden.arms, golden.n, golden.confounded) == (2, 4, False)


def test_length_truncation_and_a_dropped_subject_are_found() -> None:
    rng = random.Random(4)
    pairs: list[PairedComparison] = []
    for index in range(160):
        filler = [f"w{rng.randrange(400)}" for _ in range(rng.randrange(5, 40))]
        dropped, cut = rng.random() < 0.3, rng.random() < 0.3
        subject = "field" if dropped else "cat"
        gain = 0.01 * len(filler) / 10 - 0.05 * dropped - 0.03 * cut + rng.gauss(0, 0.005)
        rewrite = " ".join([subject, *filler])
        pairs.append(pair(rewrite, gain, seed=index, arm=f"arm{index % 4}", truncated=12 * cut))
    rows = {row.kind: row for row in fit_evidence_table(pairs, max_rows=999) if row.kind != "term"}
    assert rows["length"].lo > 0 and rows["length"].effect == pytest.approx(0.01, abs=0.005)
    assert rows["truncation"].hi < 0
    assert (
        rows["dropped_subject"].hi < 0
        or by_term(fit_evidence_table(pairs, max_rows=999))["field"].hi < 0
    )


def test_the_equations_agree_with_the_dense_ones() -> None:
    """Effects = G Z' V^-1 (y - mean); likelihood = the density of y with the mean integrated."""
    pairs = sorted(world(1, PLANTED, count=30, prompts=6), key=lambda p: p.naive)
    columns = evidence._columns(pairs, 2)
    ratios = (3.0, 0.3, 5.0)
    model = evidence._Model(pairs, columns)
    found = model.fit(*ratios)

    terms = np.stack([column.values for column in columns], axis=1)
    one_hot = [
        np.array([[label == name for name in sorted(set(labels))] for label in labels], float)
        for labels in ([p.naive for p in pairs], [p.arm for p in pairs])
    ]
    parts = [terms, *one_hot]
    n = len(pairs)
    shape = np.eye(n) + sum(z @ z.T / r for z, r in zip(parts, ratios, strict=True))
    weight = np.linalg.inv(shape)
    gains = np.array([p.gain for p in pairs])
    centred = gains - weight.sum(axis=0) @ gains / weight.sum()
    assert found.effects == pytest.approx(terms.T @ weight @ centred / ratios[0], abs=1e-12)

    def restricted(*ratios: float) -> float:
        """REML as the density of n - 1 contrasts (Patterson & Thompson 1971)."""
        v = np.eye(n) + sum(z @ z.T / r for z, r in zip(parts, ratios, strict=True))
        contrasts = np.linalg.svd(np.ones((1, n)))[2][1:]
        k_v, k_y = contrasts @ v @ contrasts.T, contrasts @ gains
        variance = k_y @ np.linalg.solve(k_v, k_y) / (n - 1)
        return float(multivariate_normal(np.zeros(n - 1), variance * k_v).logpdf(k_y))

    for other in ((30.0, 0.3, 5.0), (3.0, 3.0, 5.0), (3.0, 0.3, 50.0)):
        gap = model.likelihood(*ratios) - model.likelihood(*other)
        assert gap == pytest.approx(restricted(*ratios) - restricted(*other), abs=1e-8)


def test_work_and_memory_of_tabulating_grow_with_the_run_about_linearly() -> None:
    effects = {f"q{i}": 0.0 for i in range(300)}
    pairs = world(2, effects, count=4000, prompts=200, arms=40, per_rewrite=8)
    fit_evidence_table(pairs)  # the terms of a prompt are found once
    for effort in (lines_run, peak_bytes):
        assert effort(lambda: fit_evidence_table(pairs)) < 5 * effort(
            lambda: fit_evidence_table(pairs[:1000])
        )
