"""The race: what is counted, what is equal for all, and what the figures say of it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import curves
from peers.arena import Arena
from peers.bench_peers import cell_digest
from peers.judge import best_of_n, heldout
from peers.ledger import RenderLedger, Spent
from peers.meta import PromptEngineer
from peers.methods import METHODS, Place
from peers.pairs import pairs_csv, pairs_markdown, pairs_of
from peers.realise import phrases_of, realise
from peers.server import PeerFailed, race
from peers.task import METHOD_RULES, SEEDS, bench_file, load_task
from support.builders import experiment_cell
from support.llm_stubs import ScriptedAsks

from bigpe.runtime.experiments.cells import ExperimentCell
from bigpe.runtime.experiments.report.tables import BEST
from bigpe.runtime.experiments.shared_models import SharedModels, Stopwatches, share_models
from bigpe.runtime.project.config import check_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.services import Services, open_services
from bigpe.services.prompt_data.splits import split
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer

STUB = "race_stub.py"


def models(folder: Path) -> SharedModels:
    blobs = BlobStore(Project(folder).images)
    log = folder / "calls.jsonl"
    fakes = SharedModels(
        FakeRenderer(blobs, log=log), FakeScorer(blobs), {"default": FakeLlm(log=log)}
    )
    return share_models(fakes, Stopwatches(folder / "seconds.json"))


@asynccontextmanager
async def services(folder: Path) -> AsyncGenerator[Services]:
    lent = models(folder)
    async with Store(Project(folder).database) as store:
        effects = CallCache(store)
        async with open_services(
            check_config({}, where="test"),
            Project(folder),
            effects,
            effects,
            run="race",
            llms=lent.llms,
            renderer=lent.renderer,
            scorer=lent.scorer,
        ) as opened:
            yield opened


def painted(folder: Path) -> set[tuple[str, int]]:
    lines = (folder / "calls.jsonl").read_text().splitlines()
    calls = [json.loads(line) for line in lines]
    return {(prompt, seed) for kind, prompt, seed in calls if kind == "render"}


def test_the_two_benches_share_nothing() -> None:
    dev, final = (bench_file(b).read_text("utf-8").splitlines() for b in ("dev", "final"))
    assert not set(dev) & set(final)
    assert not set(SEEDS["dev"]) & set(SEEDS["final"])
    # Near-duplicates would be one group, and together there would be fewer groups than apart.
    groups = split([*dev, *final]).groups
    assert groups == split(dev).groups + split(final).groups
    for bench in ("dev", "final"):
        task = load_task(bench, 0, 50)
        assert len(task.train) >= 20 and len(task.validation) == 8 and len(task.test) == 24
        assert len(set(task.initial)) == 10


@given(st.lists(st.tuples(st.text(max_size=2), st.integers(0, 3)), max_size=30), st.integers(0, 12))
def test_the_ledger_counts_different_pictures_and_never_passes_its_budget(
    requests: list[tuple[str, int]], budget: int
) -> None:
    ledger = RenderLedger(budget)
    taken: set[tuple[str, int]] = set()
    for picture in requests:
        naive = ("naive", picture[1])
        fits = len(taken | {picture, naive}) <= budget
        if fits:
            ledger.take(naive, picture)
            taken |= {picture, naive}
        else:
            with pytest.raises(Spent):
                ledger.take(naive, picture)
        assert ledger.spent == len(taken) <= budget


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Add details. Include golden hour, sharp focus and vivid colors.", 3),
        ("Add details, with moss and ripples, and leave out gravel.", 2),
        ("Add details.", 0),
        ("Say what is happening", 1),
        ("", 0),
    ],
)
def test_the_phrases_of_a_text_are_shown_in_its_exemplars(text: str, phrases: int) -> None:
    found = phrases_of(text)
    assert len(found) == phrases
    displayed = realise(text).exemplars
    assert len(displayed) == 3
    assert "gravel" not in " ".join(exemplar.rewrite for exemplar in displayed)
    if text.startswith("Add details. Include"):
        assert all(phrase in e.rewrite for phrase in found for e in displayed)
        assert not any("include" in e.rewrite for e in displayed)


PROFESSIONAL = ["a mill, soft mist, oil painting", "a quay, low sun"]


async def test_a_peers_request_is_answered_by_rules_else_composed() -> None:
    good = json.dumps({"instruction": "Add details, with moss and low sun."})
    babble = json.dumps({"instruction": "Say something about a glass of wine."})
    again = json.dumps({"instruction": "Add details, with moss."})
    request = "parent: Add details. Include moss.\nparent: Add details. Include ripples."
    for lines, composed in (([good], False), ([babble, good], False), ([babble, again], True)):
        llm = ScriptedAsks(*lines)
        engineer = PromptEngineer(llm, PROFESSIONAL, seed=3)
        result = await engineer.ask(request, 1)
        assert engineer.composed == composed and engineer.usage.calls == len(llm.asked)
        phrases = set(phrases_of(result))
        assert phrases & {"soft mist", "oil painting", "low sun"}
        assert phrases <= {"moss", "ripples", "soft mist", "oil painting", "low sun"}
    assert "phrases: " in llm.last[-1][1].splitlines()[-1]
    measured = (
        "current: Add details.\nmeasured effects\ngolden hour: +0.031 (n=5)\nmud: -0.020 (n=3)"
    )
    engineer = PromptEngineer(ScriptedAsks(babble, forever=True), PROFESSIONAL, seed=3)
    assert phrases_of(await engineer.ask(measured, 1)) == ("golden hour",)


def test_tuning_bigpe_costs_no_peers_run() -> None:
    base, tuned = (check_config(c, where="test") for c in ({}, {"policy": {"name": "greedy"}}))
    other = check_config({"render": {"steps": 3}}, where="test")
    of = {
        method: [cell_digest(method, "dev", 200, config) for config in (base, tuned, other)]
        for method in ("gepa", "bigpe")
    }
    assert of["gepa"][0] == of["gepa"][1] != of["gepa"][2]
    assert len(set(of["bigpe"])) == 3


async def test_an_evaluation_costs_its_new_pictures_and_a_repeated_one_nothing(
    tmp_path: Path,
) -> None:
    async with services(tmp_path) as opened:
        arena = Arena(opened, load_task("dev", 0, 4))
        left, two, three = arena.task.train[:3]
        first = await arena.evaluate("Add details.", left)
        assert arena.ledger.spent == 2
        assert await arena.evaluate("Add details.", left) == first
        assert arena.ledger.spent == 2
        await arena.evaluate("Add details.", two)
        assert arena.ledger.spent == 4
        with pytest.raises(Spent):
            await arena.evaluate("Add details.", three)
        assert arena.ledger.spent == 4
    async with services(tmp_path) as opened:
        again = Arena(opened, load_task("dev", 0, 4))
        before = painted(tmp_path)
        assert await again.evaluate("Add details.", left) == first
        # Found in the memo, and charged nevertheless.
        assert painted(tmp_path) == before and again.ledger.spent == 2


async def test_a_peer_in_its_own_process_uses_its_budget_and_hands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as `make peers` has it
    async with services(tmp_path) as opened:
        arena = Arena(opened, load_task("dev", 0, 30))
        text, note = await race(arena, Path(sys.executable), STUB, "plays")
        assert text and note.endswith("tried")
        assert 28 <= arena.ledger.spent <= 30
        assert len(painted(tmp_path)) == arena.ledger.spent
        with pytest.raises(PeerFailed, match="told to die"):
            await race(arena, Path(sys.executable), STUB, "dies")


@pytest.mark.parametrize("budget", [6, 30])
async def test_a_peer_that_is_cut_off_can_hand_in_the_best_that_it_has_scored(
    tmp_path: Path, budget: int
) -> None:
    async with services(tmp_path) as opened:
        arena = Arena(opened, load_task("dev", 0, budget))
        handed_in, best = await race(arena, Path(sys.executable), STUB, "trusts")
        # With six renders no instruction is scored on four prompts: the first is handed in.
        assert handed_in == best
        assert (handed_in == arena.task.initial[0]) == (budget == 6)


def test_a_method_whose_own_rules_changed_is_run_again_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = check_config({}, where="test")
    before = {m: cell_digest(m, "dev", 100, base) for m in ("capo", "opro", "bigpe")}
    monkeypatch.setitem(METHOD_RULES, "capo", METHOD_RULES["capo"] + 1)
    after = {m: cell_digest(m, "dev", 100, base) for m in before}
    assert {m for m in before if before[m] != after[m]} == {"capo"}


@pytest.mark.parametrize("method", ["random", "bigpe"])
async def test_our_own_methods_stay_within_the_budget(tmp_path: Path, method: str) -> None:
    base = check_config({}, where="test")
    place = Place(base, Project(tmp_path), models(tmp_path), Path(sys.executable))
    async with services(tmp_path) as opened:
        task = load_task("dev", 1, 60)
        arena = Arena(opened, task)
        entry = await METHODS[method](arena, place)
        seen = painted(tmp_path)
        assert 30 < entry.renders == len(seen) <= 60
        assert not {prompt for prompt, _ in seen} & set(task.test)
        gains = await heldout(opened, entry.instruction, task)
        assert set(gains) == set(task.test)


async def test_best_of_n_spends_its_budget_on_the_test_prompts(tmp_path: Path) -> None:
    async with services(tmp_path) as opened:
        picked = await best_of_n(opened, load_task("dev", 0, 72))
        assert all(gain >= 0 for gain in picked.gains.values()) and 48 <= picked.renders <= 72
        assert picked.usage.calls >= 48 and picked.usage.prompt_tokens > 0
        poor = await best_of_n(opened, load_task("dev", 0, 40))
        assert set(poor.gains.values()) == {0.0} and poor.renders == poor.usage.calls == 0


def cell(method: str, budget: int, seed: int, gain: float) -> ExperimentCell:
    return experiment_cell(
        f"{method}@{budget}",
        seed,
        experiment="peers-dev",
        series=method,
        config=f"{method}{budget}",
        budget=budget,
        gains={BEST: {"p": gain / 100}},
    )


def figures_of(cells: list[ExperimentCell]) -> dict[str, curves.Figure]:
    return {figure.figure: figure for figure in curves.figures(cells)}


def test_figures_of_races_that_have_not_run_are_null_and_say_so() -> None:
    for figure in figures_of([]).values():
        assert figure.value is None and "not run yet" in figure.how


def test_the_difference_is_paired_by_seed_and_the_ratio_interpolated() -> None:
    cells = [cell("gepa", 400, seed, 4.0 + seed) for seed in range(4)]
    cells += [cell("bigpe", 200, seed, 5.0 + seed) for seed in range(4)]
    cells += [cell("bigpe", 100, seed, 3.5 + seed) for seed in range(4)]
    found = figures_of(cells)
    difference = found["bigpe200_minus_gepa400"]
    assert (difference.value, difference.lo, difference.hi) == pytest.approx((1.0, 1.0, 1.0))
    # GEPA's mean is 5.5; bigpe's is 5.0 at 100 and 6.5 at 200, so 5.5 at 133.3 renders.
    ratio = found["renders_ratio_to_gepa"]
    assert ratio.value == pytest.approx(133.33 / 400, abs=1e-3)
    further = figures_of([*cells, cell("bigpe", 400, 0, 9.0)])["renders_ratio_to_gepa"]
    assert (further.value, further.n) == (ratio.value, ratio.n)  # one seed went on: no loss


def test_a_ratio_to_nothing_is_null() -> None:
    cells = [cell("gepa", 400, seed, (-1) ** seed) for seed in range(4)]
    cells += [cell("bigpe", 200, seed, 5.0) for seed in range(4)]
    ratio = figures_of(cells)["renders_ratio_to_gepa"]
    assert ratio.value is None and "includes 0" in ratio.how
    never = [cell("gepa", 400, s, 9.0 + s) for s in range(4)]
    never += [cell("bigpe", 200, s, 1.0) for s in range(4)]
    assert "never" in figures_of(never)["renders_ratio_to_gepa"].how


def test_a_ratio_is_taken_over_the_seeds_that_both_have() -> None:
    """A lucky first seed of bigpe must not be held against all of GEPA's."""
    cells = [cell("gepa", 400, seed, gain) for seed, gain in enumerate((9.0, 9.5, 1.0, 1.5))]
    cells += [cell("bigpe", 200, 0, 8.0), cell("bigpe", 200, 1, 7.0), cell("bigpe", 100, 0, 6.0)]
    ratio = figures_of(cells)["renders_ratio_to_gepa"]
    assert ratio.n == 1 and ratio.value is None  # the one seed of all three has no interval
    cells += [cell("bigpe", 100, 1, 6.0)]
    ratio = figures_of(cells)["renders_ratio_to_gepa"]
    assert ratio.n == 2 and "never" in ratio.how
    apart = [cell("gepa", 400, 0, 1.0), cell("bigpe", 200, 1, 2.0)]
    assert "no run seed" in figures_of(apart)["renders_ratio_to_gepa"].how


def test_cells_of_a_method_that_was_set_anew_do_not_count() -> None:
    """Of the old setting three run seeds, of the new one two: they are not one curve."""
    old = [cell("capo", 50, seed, 1.0) for seed in range(3)]
    new = [
        cell("capo", 50, seed, 9.0).model_copy(update={"config": "anew", "finished": 1.0})
        for seed in range(2)
    ]
    assert curves.gains_of([*new, *old])["capo", 50] == pytest.approx({0: 9.0, 1: 9.0})


def test_every_peer_is_paired_with_bigpe_at_each_budget_and_corrected_as_one_family() -> None:
    cells = [cell("bigpe", budget, seed, 8.0 + seed) for budget in (50, 100) for seed in range(5)]
    cells += [cell("opro", 100, seed, gain) for seed, gain in enumerate((1.0, 2.0, 4.0, 3.0, 2.0))]
    cells += [cell("random", 50, seed, 8.0 + seed) for seed in range(3, 9)]
    # Left out: a peer with one run seed, and one at a budget that bigpe has not run.
    cells += [cell("capo", 50, 0, 1.0), cell("gepa", 400, 0, 1.0)]
    pairs = pairs_of(curves.gains_of(cells))
    assert [(pair.peer, pair.budget, pair.seeds) for pair in pairs] == [
        ("random", 50, 2),
        ("opro", 100, 5),
    ]
    equal, ahead = pairs
    assert (equal.difference.mean, equal.p_holm) == (0.0, 1.0)
    # 7, 7, 6, 8, 10: t = 7.6 / (1.517 / sqrt(5)) = 11.2 at 4 degrees of freedom, p twice 0.00036.
    assert ahead.difference.mean == pytest.approx(7.6)
    assert ahead.p_holm == pytest.approx(2 * 0.000362, rel=0.01)
    assert "| opro | 100 | 5 | +7.60 [+5.72, +9.48] | < 0.001 |" in pairs_markdown(pairs)
    assert pairs_csv(pairs).splitlines()[1].startswith("random,50,2,0,0,0,1")
