"""What each kind of message says, for a terminal and for a page."""

from __future__ import annotations

from typing import Any, TypeGuard, get_args

import pytest
from support.terminal_text import terminal_lines

from bigpe.agents.evidence.contrasts import Contrast, TermTally
from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import (
    AnyMessage,
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    InstructionsProposed,
    Message,
    PairedGain,
    PlanChanged,
    ProposalRequested,
    ProposedInstruction,
    RunStopped,
    StepFailed,
)
from bigpe.agents.messages.search import BatchStudy, InstructionRecord, SearchState, TriedChange
from bigpe.runtime.transcript.describing.messages import describe, describe_row
from bigpe.runtime.transcript.describing.parts import (
    Picture,
    Preformatted,
    Table,
    summary,
)
from bigpe.runtime.transcript.describing.terminal import line_text
from bigpe.runtime.transcript.search import TranscriptRow
from bigpe.services.core.values import Instruction

KINDS: tuple[type[Message], ...] = get_args(get_args(AnyMessage)[0])
HEAD = {"mid": "0" * 32, "run": "main", "parent": "", "round": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_message_has_a_description(kind: type[Message]) -> None:
    assert describe.dispatch(kind) is not describe.dispatch(Message)


def failed(**fields: object) -> StepFailed:
    step: dict[str, object] = {
        "step": "x",
        "step_kind": "RenderRequested",
        "actor": "renderer",
        "error": "OSError",
    }
    image = {"purpose": "rewrite", "naive": "a cat", "seed": 1, "rendered": False}
    step["scope"] = {"lost": "image", **image}
    return StepFailed.model_validate(
        {**HEAD, **step, "cause": "no\nmemory", "attempt": 2, "will_retry": True, **fields}
    )


def test_a_summary_holds_what_the_details_of_a_failure_say() -> None:
    description = describe(failed())
    headline, *details = terminal_lines(description)
    assert '"no memory"' in summary(description) and '"no memory"' not in headline
    assert [detail.strip() for detail in details] == ['"no memory"']
    assert '"a cat"' in headline


def test_a_folded_text_is_left_out_of_the_terminal() -> None:
    description = describe(failed(raw="a long answer"))
    folded = [part for part in description.details if isinstance(part, Preformatted) and part.title]
    assert [part.text for part in folded] == ["a long answer"]
    assert "a long answer" not in "".join(terminal_lines(description))


def test_no_control_character_reaches_a_terminal() -> None:
    stopped = RunStopped.model_validate({**HEAD, "reason": "\x1b[2J", "best": "\x07" * 64})
    assert all(line.isprintable() for line in terminal_lines(describe(stopped)))
    cause = failed(cause="\x1b[2J", error="\x07")
    for whole in (False, True):
        assert all(line.isprintable() for line in terminal_lines(describe(cause), whole=whole))


@pytest.mark.parametrize("body", ['{"kind": "Odd"}', '{"kind": "PlanChanged", "rounds": 0}'])
def test_an_unreadable_message_is_shown_as_its_json(body: str) -> None:
    row = TranscriptRow(1, "0" * 32, "Odd", "someone", "", 0, body, 0.0, 0, 0.0)
    description = describe_row(row)
    assert "Odd" in summary(description)
    assert [part.text for part in description.details if isinstance(part, Preformatted)]


def test_a_kind_without_an_entry_is_shown_as_its_json() -> None:
    class Odd(Message):
        kind: str = "Odd"

    assert "Odd" in summary(describe(Odd.model_validate(HEAD)))
    assert describe.dispatch(PlanChanged) is not describe.dispatch(Odd)


# -- what a gradient calculator saw ---------------------------------------------------------------

OWN, OTHER = Instruction(text="Name the light.\nThen one medium."), Instruction(text="Be brief.")
LONG = "a cat, " + ", ".join(f"phrase number {n}" for n in range(40))


def gain(naive: str, rewrite: str, value: float, **more: Any) -> PairedGain:
    return PairedGain(
        naive=naive, rewrite=rewrite, seed=1, naive_score=0.5, score=0.5 + value, gain=value,
        naive_image=f"naive {naive}", image=f"image {rewrite}", **more,
    )  # fmt: skip


def compared(rewrite: str, value: float, arm: str) -> PairedComparison:
    return PairedComparison(
        naive="a cat", rewrite=rewrite, seed=1, gain=value, arm=arm, image=f"image {rewrite}"
    )


RECORD = InstructionRecord(instruction=OWN, gains=4, mean=0.02, lo=0.01, hi=0.03)
SEARCH = SearchState(
    own=RECORD, records=(RECORD,), operators=("explore",), stale=2, sigma=0.01,
    tried=(
        TriedChange(
            round=1, operator="merge", change="took the light of the other", parent=OTHER.id,
            child=OWN.id, prompts=3, mean=0.014, lo=0.001, hi=0.027,
        ),
    ),
)  # fmt: skip
STUDY = BatchStudy(
    batch=(
        gain("a dog", "a dog", 0.0, fallback="no prompt in it", fault=AnswerFault.NO_PROMPT),
        gain("a cat", LONG, 0.05, truncated=9),
    ),
    contrasts=(
        Contrast(best=compared(LONG, 0.05, OWN.id), worst=compared("a cat, pale", -0.03, OTHER.id)),
    ),
    professionals=(compared("a cat by a window", 0.01, "professional"),),
    tallies=(TermTally(term="phrase number 3", prompts=2, better=2, mean=0.04),),
    search=SEARCH,
)
ROW = EvidenceRow(
    id="E1", kind="term", term="phrase number 3", effect=0.02, lo=0.01, hi=0.03, n=6, arms=2,
    confounded=False,
)  # fmt: skip
CRITIQUE = CritiqueRequested.model_validate(
    {
        **HEAD,
        "instruction": OWN,
        "rows": (ROW,),
        "best": None,
        "worst": None,
        "professional": None,
        "seed": 3,
        "improvements": 1,
        "study": STUDY,
    }  # fmt: skip
)


def tables() -> dict[str, Table]:
    parts = describe(CRITIQUE).details
    return {part.title.split(":")[0]: part for part in parts if isinstance(part, Table)}


def cells(table: Table) -> list[list[str]]:
    return [
        [line_text(cell, whole=True).plain.strip('"') for cell in row]
        for group in table.groups
        for row in group.rows
    ]


def test_the_batch_has_fallbacks_cut_tokens_and_both_pictures() -> None:
    batch = tables()["The batch"]
    titles = [column.title for column in batch.columns]
    assert titles[-2:] == ["fallback", "tokens cut"]
    best, fallback = cells(batch)
    assert best[1:4] == ["a cat", LONG, "+5.00"] and best[-1] == "9"
    assert fallback[1] == "a dog" and "no prompt" in fallback[-2] and fallback[-1] == "-"
    pictures = [span.digest for span in batch.groups[0].rows[0][0].spans if span_is_picture(span)]
    assert pictures == ["naive a cat", f"image {LONG}"]


def span_is_picture(span: Any) -> TypeGuard[Picture]:
    return isinstance(span, Picture)


def test_a_contrast_is_a_group_of_one_naive_prompt() -> None:
    contrasts = tables()["Contrasts"]
    (group,) = contrasts.groups
    assert group.head is not None and group.foot is not None
    assert [span.digest for span in group.head.spans if span_is_picture(span)] == ["naive a cat"]
    assert [row[1:] for row in cells(contrasts)] == [
        [LONG, "+5.00", f"{OWN.id[:8]} (this)"],
        ["a cat, pale", "-3.00", OTHER.id[:8]],
    ]
    assert "pale" in line_text(group.foot).plain


def test_hints_and_tried_changes_have_their_figures() -> None:
    found = tables()
    assert cells(found["Hints"]) == [
        ["E1", "phrase number 3", "+4.00", "2 of 2", "+2.00", "+1.00 … +3.00", "6", "2"]
    ]
    (change,) = cells(found["Changes that were tried"])
    assert change[:2] == ["1", "merge"] and "+1.40" in change[-2] and change[-1] == "3"
    assert found["The whole evidence table, of which hints are taken"].folded


@pytest.mark.parametrize("width", [40, 64, 80, 100, 200])
def test_a_terminal_of_any_width_has_every_word(width: int) -> None:
    lines = terminal_lines(describe(CRITIQUE), width, whole=True, tty=True)[1:]
    assert max(map(len, lines)) <= width
    flat = " ".join(" ".join(lines).split())
    for words in ("Then one medium.", "took the", "+5.00", "-3.00", "no prompt", "number", "E1"):
        assert words in flat, words
    assert all(f"{n}" in flat for n in range(40))


def test_a_list_of_messages_has_the_gist_of_a_long_one() -> None:
    description = describe(CRITIQUE)
    assert description.long and "2 comparisons" in summary(description)


def test_a_proposal_names_operator_parent_and_change_in_one_line() -> None:
    proposal = ProposedInstruction(
        instruction=OWN, improvement="Name oil.", composed=False, operator="explore",
        change="named the medium",
    )  # fmt: skip
    message = InstructionsProposed.model_validate(
        {**HEAD, "parent_instruction": OTHER.id, "proposals": (proposal,)}
    )
    first = terminal_lines(describe(message))[1]
    assert all(part in first for part in (OWN.id[:8], "explore", OTHER.id[:8], "named the medium"))


def test_several_improvements_are_a_list() -> None:
    gradient = Gradient(
        inference="Oil pays.", improvement="(1) Name oil (it won). (2) Drop fog.", evidence=(),
        composed=False, adds=("oil",), avoids=("fog",),
    )  # fmt: skip
    message = GradientsComputed.model_validate({**HEAD, "gradients": (gradient,)})
    found = [row.strip() for row in terminal_lines(describe(message))]
    assert "(1) Name oil (it won)." in found and "(2) Drop fog." in found
    assert any("oil" in row and "fog" in row and row.startswith("add") for row in found)


def test_a_request_for_proposals_has_the_rewrites_and_records_that_it_holds() -> None:
    batch = [gain(f"thing {n}", f"rewrite {n}", 0.01 * n) for n in range(8)]
    values: dict[str, Any] = {
        **HEAD, "instruction": OWN, "gradients": (), "rows": (), "pairs": (), "living": (),
        "batch": (), "seed": 1, "search": SEARCH, "gains": batch,
    }  # fmt: skip
    parts = describe(ProposalRequested.model_validate(values)).details
    rewrites, records, _ = [cells(part) for part in parts if isinstance(part, Table)]
    assert [row[2] for row in rewrites] == [f"rewrite {n}" for n in (7, 6, 5, 1, 0)]
    assert [row[2:] for row in records] == [["+2.00", "+1.00 … +3.00", "4", "0"]]
