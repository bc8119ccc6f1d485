"""The content of a new instruction: which clauses it names and which terms it leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bigpe.agents.evidence.mixed_model import EvidenceRow, Kind
from bigpe.agents.evidence.terms import contains_term
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.evidence_worded.clause_plan import (
    EXPLORED,
    MAX_CLAUSE_WORDS,
    MAX_CLAUSES,
    SUPPORT,
    TermEffects,
    clauses_of,
    fit_to_budget,
    inherited_clauses,
    plan_clauses,
    unexplored_clauses,
    wanted_terms,
    without_shared_words,
)
from bigpe.services.core.values import Exemplar, Instruction

WORDS = [f"w{n}" for n in range(8)]
clauses = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
lists = st.lists(clauses, max_size=8)
distinct = st.lists(clauses, max_size=10, unique=True)
prompts = st.lists(
    st.lists(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), max_size=6
    ).map(", ".join),
    max_size=3,
)
rules = st.builds(
    Constraints,
    required=st.lists(clauses, max_size=8, unique=True).map(tuple),
    banned=st.lists(st.sampled_from(WORDS), max_size=2).map(tuple),
)


def row(
    term: str, effect: float, width: float, *, id: str = "E", kind: Kind = "term"
) -> EvidenceRow:
    return EvidenceRow(
        id=id, kind=kind, term=term, effect=effect, lo=effect - width, hi=effect + width,
        n=9, arms=2, confounded=False,
    )  # fmt: skip


@st.composite
def evidence(draw: st.DrawFn) -> tuple[EvidenceRow, ...]:
    terms = draw(distinct)
    effects = st.floats(-0.01, 0.01)
    return tuple(
        row(term, draw(effects), draw(st.floats(0, 0.02)), id=f"E{n}")
        for n, term in enumerate(terms)
    )


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    shared = draw(lists)
    exemplars = tuple(
        Exemplar(naive=naive, rewrite=", ".join([naive, *shared])) for naive in ("a hat", "a lamp")
    )
    return Instruction(text="Add details.", exemplars=exemplars)


def share_a_word(texts: Sequence[str]) -> bool:
    words = [word for text in texts for word in set(text.split())]
    return len(set(words)) < len(words)


@given(evidence(), clauses)
def test_the_longest_measured_term_in_a_clause_gives_its_effect(
    rows: tuple[EvidenceRow, ...], clause: str
) -> None:
    effects = TermEffects(rows)
    inside = [row for row in rows if contains_term(clause, row.term)]
    if not inside:
        assert effects.effect(clause) == effects.z(clause) == 0.0
        return
    longest = max(len(row.term) for row in inside)
    candidates = [row for row in inside if len(row.term) == longest]
    assert effects.effect(clause) in {row.effect for row in candidates}
    assert (effects.z(clause) > 0) == (effects.effect(clause) > 0)


@given(st.floats(0.0001, 0.01), st.floats(0.0001, 0.01), st.floats(1.1, 4))
def test_a_wider_interval_lowers_the_z_value_and_not_the_effect(
    effect: float, width: float, factor: float
) -> None:
    sure, unsure = (TermEffects([row("w0", effect, w)]) for w in (width, factor * width))
    assert sure.effect("w0") == unsure.effect("w0") == effect
    assert sure.z("w0") > unsure.z("w0") > 0


def test_only_terms_have_effects() -> None:
    assert TermEffects([row("w0", 0.01, 0.001, kind="length")]).effect("w0") == 0.0


@given(evidence(), rules)
def test_wanted_terms_are_the_allowed_cited_terms_by_the_sign_of_their_effect(
    rows: tuple[EvidenceRow, ...], constraints: Constraints
) -> None:
    wanted = wanted_terms(rows, constraints)
    for row in rows:
        allowed = constraints.fault(row.term) is None
        assert (row.term in wanted.add) == (allowed and row.effect > 0)
        assert (row.term in wanted.avoid) == (allowed and row.effect <= 0)


@given(evidence(), distinct, lists, rules)
def test_inherited_clauses_are_supported_allowed_and_the_surest_first(
    rows: tuple[EvidenceRow, ...], existing: list[str], avoid: list[str], constraints: Constraints
) -> None:
    effects = TermEffects(rows)
    inherited = inherited_clauses(existing, effects, avoid=avoid, constraints=constraints)
    assert set(inherited) <= set(existing) and len(inherited) <= MAX_CLAUSES
    assert all(effects.z(clause) > SUPPORT for clause in inherited)
    assert [effects.z(c) for c in inherited] == sorted(map(effects.z, inherited), reverse=True)
    assert constraints.allowed(inherited) == inherited
    assert not any(contains_term(clause, term) for clause in inherited for term in avoid)
    assert not share_a_word(inherited)


@given(evidence(), prompts, lists, lists, st.integers(0, 5))
def test_unexplored_clauses_are_short_new_and_not_measured_as_harmful(
    rows: tuple[EvidenceRow, ...],
    professional: list[str],
    planned: list[str],
    batch: list[str],
    seed: int,
) -> None:
    effects = TermEffects(rows)
    given = {"planned": planned, "batch_prompts": batch}
    found = unexplored_clauses(professional, effects, seed=seed, **given)
    parts = [prompt.split(", ") for prompt in professional]
    assert {*found} <= {clause for part in parts for clause in part[1:]}
    assert len({*found}) == len(found)
    used = {word for text in (*planned, *batch) for word in text.split()}
    for clause in found:
        assert len(clause.split()) <= MAX_CLAUSE_WORDS
        assert used.isdisjoint(clause.split()) and effects.effect(clause) >= 0
    assert found == unexplored_clauses(professional, effects, seed=seed, **given)
    other = unexplored_clauses(professional[::-1], effects, seed=seed + 1, **given)
    assert sorted(found) == sorted(other), "the seed decides the order only"


@given(evidence(), lists, st.integers(0, MAX_CLAUSES), st.lists(clauses, max_size=3))
def test_fitting_removes_the_lowest_effects_and_no_required_clause(
    rows: tuple[EvidenceRow, ...], optional: list[str], limit: int, required: list[str]
) -> None:
    effects = TermEffects(rows)
    candidates = required + [clause for clause in optional if clause not in required]
    fitted = fit_to_budget(candidates, limit, effects, required=required)
    assert fitted[: len(required)] == required
    assert len(fitted) == min(len(candidates), max(limit, len(required)))
    removed = [*candidates]
    for clause in fitted:
        removed.remove(clause)
    lowest = min(map(effects.effect, fitted[len(required) :]), default=None)
    assert lowest is None or all(effects.effect(clause) <= lowest for clause in removed)


@given(lists, st.integers(0, 8))
def test_clauses_that_share_a_word_with_an_earlier_one_are_skipped(
    texts: list[str], count: int
) -> None:
    kept = without_shared_words(texts, count)
    assert not share_a_word(kept) and len(kept) <= count
    if len(kept) < count:
        used = {word for text in kept for word in text.split()}
        assert all(used & set(text.split()) for text in texts)


@given(evidence(), instructions(), st.lists(instructions(), max_size=3), prompts, rules, st.data())
def test_a_plan_is_within_its_bounds_and_names_what_is_required(
    rows: tuple[EvidenceRow, ...],
    parent: Instruction,
    living: list[Instruction],
    professional: list[str],
    constraints: Constraints,
    data: st.DataObject,
) -> None:
    cited = data.draw(
        st.sets(st.sampled_from([row.id for row in rows])) if rows else st.just(set())
    )
    plan = plan_clauses(
        rows,
        sorted(cited),
        parent=parent,
        living=living,
        professional=professional,
        batch_prompts=["w0"],
        seed=3,
        constraints=constraints,
    )
    required = [*constraints.required]
    assert [*plan.clauses[: len(required)]] == required
    assert len(plan.clauses) <= max(MAX_CLAUSES, len(required) + EXPLORED)
    measured = {row.term for row in rows}
    sources = {clause for source in (parent, *living) for clause in clauses_of(source)}
    offered = {clause for prompt in professional for clause in prompt.split(", ")}
    assert {*plan.clauses} <= {*required} | measured | sources | offered
    optional = [clause for clause in plan.clauses if clause not in required]
    assert constraints.allowed(optional) == optional
    harmful = {row.term for row in rows if row.id in cited and row.effect <= 0}
    assert {*plan.avoid} == {*constraints.allowed(sorted(harmful))}
    assert all(clause in plan.text() for clause in (*plan.clauses, *plan.avoid))
