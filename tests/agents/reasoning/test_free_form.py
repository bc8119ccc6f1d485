"""The free-form style: what its agents are shown, and what becomes of their answers."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.llm_stubs import ScriptedAsks

from bigpe.agents.evidence.contrasts import Contrast, TermTally
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import CritiqueRequested, ProposalRequested
from bigpe.agents.messages.parts import Gradient, PairedGain
from bigpe.agents.messages.search import (
    BatchStudy,
    InstructionRecord,
    Operator,
    SearchState,
    TriedChange,
)
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.free_form.gradient import hint_rows
from bigpe.agents.reasoning.free_form.instruction import merge_partner
from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import Proposal, Rejection
from bigpe.agents.reasoning.rules import ReasoningConfig
from bigpe.agents.reasoning.styles import make_style, style_name
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction
from bigpe.services.llm.base_client import estimated_tokens

quick = settings(deadline=None, derandomize=True, max_examples=25)
PARENT = Instruction(
    text="Describe the subject first.\nThen name the light, and one medium: oil or watercolour. "
    * 4
)
OTHER = Instruction(text="Write one sentence about light.")
SEARCH = SearchState(
    own=InstructionRecord(instruction=PARENT, gains=5, mean=0.02, lo=0.01, hi=0.03, won=("a cat",)),
    records=(
        InstructionRecord(instruction=PARENT, gains=5, mean=0.02, lo=0.01, hi=0.03, won=("a cat",)),
        InstructionRecord(
            instruction=OTHER, gains=5, mean=0.01, lo=None, hi=None, won=("a red bus", "a lake")
        ),
    ),
    tried=(
        TriedChange(
            round=1, operator="explore", change="named lenses", parent="p", child="c", prompts=0
        ),
    ),
    operators=("revise",),
    stale=3,
    sigma=0.011,
)


def gain(naive: str, rewrite: str, value: float, **more: Any) -> PairedGain:
    return PairedGain(
        naive=naive, rewrite=rewrite, seed=1, naive_score=0.2, score=0.2 + value, gain=value,
        naive_image="n", image=f"image of {rewrite}", **more,
    )  # fmt: skip


def compared(naive: str, rewrite: str, value: float, arm: str) -> PairedComparison:
    return PairedComparison(
        naive=naive, rewrite=rewrite, seed=1, gain=value, arm=arm, image=f"image of {rewrite}"
    )


def row(id: str, term: str, effect: float = 0.01) -> EvidenceRow:
    return EvidenceRow(
        id=id, kind="term", term=term, effect=effect, lo=effect - 0.005, hi=effect + 0.005,
        n=6, arms=2, confounded=False,
    )  # fmt: skip


STUDY = BatchStudy(
    batch=(
        gain("a cat", "a cat, oil painting", 0.05, truncated=7),
        gain("a red bus", "a red bus", 0.0, fallback="the model refused", fault="refused"),
    ),
    contrasts=(
        Contrast(
            best=compared("a cat", "a cat, oil painting", 0.05, PARENT.id),
            worst=compared("a cat", "a cat, pale watercolour", -0.02, OTHER.id),
        ),
    ),
    professionals=(compared("a cat", "portrait of a cat, rim light", 0.03, "professional"),),
    search=SEARCH,
)
ROWS = (row("E1", "oil painting"), row("E2", "red bus"), row("E3", "low"), row("E4", "golden hour"))
FRAME = {"mid": "0" * 32, "run": "r", "parent": "", "round": 3}
CRITIQUE = CritiqueRequested(
    **FRAME, instruction=PARENT, rows=ROWS, best=None, worst=None, professional=None, seed=3,
    improvements=1, study=STUDY,
)  # fmt: skip
GRADIENT = Gradient(
    inference="Oil pays.", improvement="Name oil as the medium.", evidence=(), composed=False
)


def proposal_request(**changes: Any) -> ProposalRequested:
    values: dict[str, Any] = {
        **FRAME, "instruction": PARENT, "gradients": (GRADIENT,), "rows": ROWS, "pairs": (),
        "living": (PARENT, OTHER), "batch": ("a red bus in the rain",), "seed": 4, "search": SEARCH,
    }  # fmt: skip
    return ProposalRequested.model_validate(values | changes)


class Capable:
    """A model other than the embedded one."""

    embedded = False
    thinks = False


async def professional(text: str, most: int) -> list[str]:
    return ["a bench by a canal, lantern, cobblestones"][:most]


def style(**settings: Any) -> Any:
    return make_style(
        "free-form",
        ReasoningConfig(),
        lambda role: Capable(),
        settings=FreeFormSettings(**settings),
        constraints=settings.get("constraints", Constraints()),
    )


def answer(*changes: Any, inference: str = "Oil pays.") -> str:
    return json.dumps({"inference": inference, "improvements": list(changes)})


# -- gradients ------------------------------------------------------------------------------------


async def test_the_gradient_calculator_sees_the_batch_contrasts_hints_and_what_was_tried() -> None:
    llm = ScriptedAsks(answer({"change": "Name oil.", "reason": "it won", "rows": []}))
    await style(scorer="HPS", painter="PAINTER").explain(llm, CRITIQUE, sees=False)
    (_, system), (_, text) = llm.last
    assert "HPS" in system and "PAINTER" in system and "<" not in system.replace("<-", "")
    for part in (
        PARENT.text.strip(), "+5.0", "the model refused", "cut off 7 tokens",
        "a cat, pale watercolour", "only the best has: oil, painting", "rim light",
        '"oil painting"', '"golden hour"', "named lenses", "not measured yet", "3 rounds",
    ):  # fmt: skip
        assert part in text, part
    assert "red bus" not in text[text.index("Hints") : text.index("tried")], "a subject"
    assert '"low"' not in text, "a fragment"


async def test_words_to_add_and_to_avoid_are_those_that_the_change_names() -> None:
    change = {
        "change": "Write Oil Paint, never ink", "reason": "pale loses",
        "add": ["oil paint", "gold"], "avoid": ["ink", "pale"],
    }  # fmt: skip
    (found,) = await style().explain(ScriptedAsks(answer(change, "No fog")), CRITIQUE, sees=False)
    assert (found.adds, found.avoids) == (("oil paint",), ("ink", "pale"))
    loose = {"change": "Write oil", "add": "oil", "avoid": None}
    (found,) = await style().explain(ScriptedAsks(answer(loose)), CRITIQUE, sees=False)
    assert (found.adds, found.avoids) == (("oil",), ())


def test_hints_are_whole_clauses_and_what_was_compared_within_prompts_comes_first() -> None:
    tallies = (
        TermTally(term="golden hour", prompts=4, better=4, mean=0.03),
        TermTally(term="golden hour light", prompts=4, better=4, mean=0.03),
        TermTally(term="oil painting", prompts=1, better=1, mean=0.04),
    )
    study = STUDY.model_copy(update={"tallies": tallies})
    rows = (
        *ROWS, row("E5", "watercolour"), row("E6", "golden hour light"),
        row("E7", "pale watercolour"), row("E8", "cat pale"),
    )  # fmt: skip
    found = [hint.term for hint in hint_rows(rows, study)]
    assert found == ["golden hour", "oil painting", "pale watercolour"]


ALPHABETS = ("word ", "夕陽", "слово ", "a🌅b ")


@quick
@given(
    alphabet=st.sampled_from(ALPHABETS),
    size=st.integers(1, 20),
    words=st.integers(1, 300),
    contrasted=st.integers(0, 8),
    rules=st.integers(1, 400),
)
def test_requests_stay_within_the_budget_and_keep_the_instruction_whole(
    alphabet: str, size: int, words: int, contrasted: int, rules: int
) -> None:
    text, own = alphabet * words, Instruction(text=(alphabet * rules).strip())
    pairs = [compared(text, text + str(n), 0.01 * n, OTHER.id) for n in range(6)]
    found = Contrast(best=pairs[-1], worst=pairs[0], between=tuple(pairs[1:-1]))
    batch = tuple(gain(text, f"{text} {n}", 0.01 * n) for n in range(size))
    study = STUDY.model_copy(update={"batch": batch, "contrasts": (found,) * contrasted})
    critique = CRITIQUE.model_copy(update={"study": study, "instruction": own})
    proposal = proposal_request(instruction=own, living=(), gains=batch)
    llm = ScriptedAsks(answer({"change": "Name oil."}))
    asyncio.run(style().explain(llm, critique, sees=False))
    asyncio.run(style().propose(again := ScriptedAsks("no", forever=True), proposal, professional))
    for request in (llm.asked[0], again.asked[0]):
        system, user = (turn.text for turn in request.turns)
        assert own.text in user
        assert estimated_tokens(user) <= FreeFormSettings().request_tokens
        assert estimated_tokens(system) < 1500


@pytest.mark.parametrize(
    "raw",
    [
        answer({"change": "Name oil", "reason": "it won", "rows": ["E1", "E4", "E9"]}),
        f"<think>hm</think>Here it is:\n```json\n"
        f"{answer({'change': 'Name oil', 'reason': 'it won; oil painting', 'rows': ['E1']})}\n```",
        answer("Name oil"),
        json.dumps({"inference": "x", "improvements": "Name oil"}),
    ],
)
async def test_a_gradient_is_found_in_any_packaging(raw: str) -> None:
    (found,) = await style().explain(ScriptedAsks(raw), CRITIQUE, sees=False)
    assert found.improvement.startswith("Name oil") and not found.composed


async def test_citations_are_checked_against_the_text() -> None:
    change = {"change": "Ask for an oil painting", "reason": "", "rows": ["E1", "E4", "E9"]}
    (found,) = await style().explain(ScriptedAsks(answer(change)), CRITIQUE, sees=False)
    assert found.evidence == ("E1",) and found.dropped_citations == 2


@pytest.mark.parametrize(("wanted", "expected"), [(1, 1), (2, 2), (5, 3)])
async def test_the_changes_are_one_gradient_or_one_each(wanted: int, expected: int) -> None:
    request = CRITIQUE.model_copy(update={"improvements": wanted})
    llm = ScriptedAsks(answer("Name oil", "Drop fog", "Put light first", "Use ink"))
    found = await style().explain(llm, request, sees=False)
    assert len(found) == expected
    assert sum(gradient.usage.calls for gradient in found) == 1
    assert all(text in found[0].improvement for text in ("Name oil", "Drop fog")) == (wanted == 1)


async def test_after_answers_without_a_gradient_the_hints_are_composed() -> None:
    llm = ScriptedAsks("I cannot say.", "no", "{}", forever=True)
    (found,) = await style().explain(llm, CRITIQUE, sees=False)
    assert (
        found.composed and found.fault is AnswerFault.SHAPE and "oil painting" in found.improvement
    )


async def test_a_model_that_sees_gets_the_images_of_the_widest_contrast() -> None:
    llm = ScriptedAsks(answer("Name oil"))
    await style().explain(llm, CRITIQUE, sees=True)
    assert llm.asked[0].turns[-1].images == (
        "image of a cat, oil painting",
        "image of a cat, pale watercolour",
    )


# -- instructions ---------------------------------------------------------------------------------


def written(text: str, change: str = "named the medium") -> str:
    return json.dumps({"instruction": text, "change": change})


async def test_an_instruction_may_have_lines_and_keeps_them() -> None:
    text = "Describe the subject.\n\n1. Name the light.\n2. Name oil paint.   \n"
    llm = ScriptedAsks(written(text))
    ((_, outcome, operator),) = await style().propose(llm, proposal_request(), professional)
    assert isinstance(outcome, Proposal) and operator == "revise"
    assert outcome.instruction.text == text.strip() and outcome.change == "named the medium"
    assert not outcome.instruction.exemplars


async def test_the_modifier_sees_the_parent_the_gradient_the_leaderboard_and_the_rules() -> None:
    llm = ScriptedAsks(written("Name oil paint."))
    rules = Constraints(banned=("neon",))
    await style(constraints=rules).propose(llm, proposal_request(), professional)
    (_, system), (_, text) = llm.last
    assert "revise the present instruction" in system and "neon" in system
    for part in (
        PARENT.text.strip(),
        OTHER.text,
        "Name oil as the medium.",
        "named lenses",
        "canal",
    ):
        assert part in text, part


async def test_the_modifier_sees_the_three_best_and_the_two_worst_rewrites_of_the_batch() -> None:
    batch = [gain(f"thing {n}", f"rewrite {n}", 0.01 * n) for n in range(8)]
    batch.append(gain("a red bus", "a red bus", 0.0, fallback="the model refused"))
    for count, expected in ((8, [7, 6, 5, 1, 0]), (4, [3, 2, 1, 0]), (2, [1, 0])):
        llm = ScriptedAsks(written("Name oil paint."))
        request = proposal_request(gains=(*batch[:count], batch[-1]))
        await style().propose(llm, request, professional)
        text = llm.last[1][1]
        assert [int(n) for n in re.findall(r"rewrite: rewrite (\d)", text)] == expected
        assert all(f"thing {n}" in text and f"{n}.0 (score" in text for n in expected)
        assert "the model refused" not in text


async def test_professional_prompts_are_declared_as_never_scored() -> None:
    llm = ScriptedAsks(written("Name oil paint."))
    await style().propose(llm, proposal_request(), professional)
    (_, system), (_, text) = llm.last
    assert "never scored" in system and "never scored" in text


REFUSED = [
    (PARENT.text.upper(), {}, AnswerFault.NEAR_COPY),
    ("word " * 401, {}, AnswerFault.TOO_LONG),
    ("Show a red bus in the rain.", {}, AnswerFault.SUBJECT),
    ("Use neon light.", {"constraints": Constraints(banned=("neon",))}, AnswerFault.CONSTRAINT),
]


@pytest.mark.parametrize(("text", "settings", "code"), REFUSED)
async def test_a_broken_rule_is_named_and_asked_for_again(
    text: str, settings: dict[str, Any], code: AnswerFault
) -> None:
    llm = ScriptedAsks(written(text), written("Name oil paint."))
    ((_, outcome, _),) = await style(**settings).propose(llm, proposal_request(), professional)
    assert isinstance(outcome, Proposal) and outcome.instruction.text == "Name oil paint."
    assert "could not be used" in llm.asked[1].turns[0].text
    stubborn = ScriptedAsks(written(text), forever=True)
    ((_, outcome, _),) = await style(**settings).propose(stubborn, proposal_request(), professional)
    assert isinstance(outcome, Rejection)
    assert (outcome.code == "near-copy") == (code is AnswerFault.NEAR_COPY)


async def test_a_condensed_instruction_has_half_of_the_words() -> None:
    operators: tuple[Operator, ...] = ("condense",)
    request = proposal_request(search=SEARCH.model_copy(update={"operators": operators}))
    long = " ".join(PARENT.text.split()[: len(PARENT.text.split()) * 2 // 3])
    llm = ScriptedAsks(written(long), written("Name oil paint."))
    ((_, outcome, operator),) = await style().propose(llm, request, professional)
    assert operator == "condense" and isinstance(outcome, Proposal)
    assert outcome.instruction.text == "Name oil paint."


async def test_a_merge_shows_the_instruction_that_wins_on_other_prompts() -> None:
    operators: tuple[Operator, ...] = ("merge",)
    request = proposal_request(search=SEARCH.model_copy(update={"operators": operators}))
    llm = ScriptedAsks(written("Name oil paint."))
    await style().propose(llm, request, professional)
    assert OTHER.text in llm.last[1][1].split("## What the last batch says")[0]
    partner = merge_partner(SEARCH)
    assert partner is not None and partner.instruction == OTHER


async def test_proposals_are_asked_for_at_the_same_time_and_each_gradient_has_one() -> None:
    foreign = GRADIENT.model_copy(update={"author": "critic", "improvement": "Use ink."})
    request = proposal_request(gradients=(foreign, GRADIENT))
    llm = ScriptedAsks(written("Name oil paint."), written("Name ink."))
    found = await style().propose(llm, request, professional)
    assert [item.gradient.author for item in found] == ["gradient", "critic"]
    assert [item.operator for item in found] == ["revise", "revise"]


async def test_a_gradient_has_a_proposal_by_each_of_its_operators() -> None:
    search = SEARCH.model_copy(update={"operators": ("revise", "explore"), "proposals": 2})
    foreign = GRADIENT.model_copy(update={"author": "critic"})
    request = proposal_request(search=search, gradients=(GRADIENT, foreign))
    llm = ScriptedAsks(written("Name oil paint."), written("Use ink."), written("Stay terse."))
    found = await style().propose(llm, request, professional)
    assert [item.operator for item in found] == ["revise", "explore", "revise"]
    assert all(isinstance(item.outcome, Proposal) for item in found)


async def test_a_near_copy_within_a_round_is_refused_with_its_cost() -> None:
    search = SEARCH.model_copy(update={"operators": ("revise", "explore"), "proposals": 2})
    llm = ScriptedAsks(written("Name oil paint."), written("Name oil paint!"))
    first, second = await style().propose(llm, proposal_request(search=search), professional)
    assert isinstance(first.outcome, Proposal) and isinstance(second.outcome, Rejection)
    assert second.outcome.code == "near-copy" and second.outcome.turns
    assert second.outcome.usage == first.outcome.usage


# -- rewrites and the choice ----------------------------------------------------------------------


async def test_a_rewrite_is_asked_for_under_the_whole_instruction_as_prose() -> None:
    prose = "A tabby cat sleeps on a sill. Warm light falls on its fur, and dust floats in it."
    llm = ScriptedAsks(f"<prompt>{prose}</prompt>")
    done = await style(painter="It reads prose.").rewrite(llm, PARENT, "a cat", 1)
    assert done.text == prose and done.fallback is None
    system, user = llm.last
    assert PARENT.text in system[1] and "It reads prose." in system[1] and user == ("user", "a cat")
    assert llm.asked[0].stop == ()


async def test_a_negative_prompt_is_asked_for_where_the_painter_takes_one() -> None:
    llm = ScriptedAsks("<prompt>a tabby cat at dawn</prompt><negative>blur</negative>")
    done = await style(negative=True).rewrite(llm, PARENT, "a cat", 1)
    assert (done.text, done.negative) == ("a tabby cat at dawn", "blur")
    assert "<negative>" in llm.last[0][1]


@pytest.mark.parametrize(
    ("wanted", "embedded", "expected"),
    [
        ("auto", ("generator", "gradient", "modifier"), "evidence-worded"),
        ("auto", ("gradient",), "evidence-worded"),
        ("auto", (), "free-form"),
        ("evidence-worded", (), "evidence-worded"),
        ("free-form", (), "free-form"),
    ],
)
def test_the_model_decides_the_style(wanted: str, embedded: tuple[str, ...], expected: str) -> None:
    assert style_name(wanted, embedded) == expected


def test_the_embedded_model_cannot_reason() -> None:
    with pytest.raises(ConfigError):
        style_name("free-form", ("generator",))
