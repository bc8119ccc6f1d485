"""The alarm about the first rewrites: when it is raised, and what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.agents.diagnostics.alarm import (
    FIRST,
    OF_THE_PROMPT,
    RewriteOutcome,
    alarm,
    explained,
    outcome_of,
)
from bigpe.agents.messages.answer_fault import AnswerFault

GOOD = outcome_of("a fox", None, None)


def bad(fault: AnswerFault) -> RewriteOutcome:
    return outcome_of("a cat", f"it was {fault.value}", fault)


def failed(error: str) -> RewriteOutcome:
    return RewriteOutcome(naive="a cat", reason=error, cause="HTTP 400: no", failed=True)


@pytest.mark.parametrize(
    ("outcomes", "raised"),
    [
        ([], False),
        ([bad(AnswerFault.EMPTY)] * 5, False),
        ([bad(AnswerFault.EMPTY)] * 6, True),
        ([bad(AnswerFault.EMPTY)] * 3 + [GOOD] * 3, True),
        ([bad(AnswerFault.EMPTY)] * 3 + [GOOD] * 4, False),
        ([bad(AnswerFault.EMPTY)] * 2 + [bad(AnswerFault.LENGTH)] * 2 + [GOOD] * 2, False),
        ([failed("LlmError")] * 5 + [GOOD] * 5, True),
        ([failed("LlmError")] * 2 + [failed("StoreError")] * 2 + [GOOD] * 2, False),
        ([bad(AnswerFault.SUBJECT)] * 5 + [GOOD], False),
        ([bad(AnswerFault.SUBJECT)] * 6, True),
        ([bad(AnswerFault.UNCHANGED)] * 9 + [GOOD], False),
    ],
)
def test_the_alarm_needs_six_rewrites_and_one_reason_for_half_of_them(
    outcomes: list[RewriteOutcome], raised: bool
) -> None:
    reason = alarm(outcomes)
    assert (reason is not None) == raised
    if reason is not None:
        assert "a cat" in reason and outcomes[0].cause in reason


@given(st.lists(st.sampled_from([GOOD, *map(bad, AnswerFault), failed("LlmError")]), max_size=30))
def test_an_alarm_is_about_a_reason_that_half_of_the_rewrites_have(
    outcomes: list[RewriteOutcome],
) -> None:
    unusable = [outcome for outcome in outcomes if outcome.reason]
    assert bool(explained(outcomes)) == bool(unusable)
    counts = {o.reason: sum(p.reason == o.reason for p in unusable) for o in unusable}
    most = max(counts.values(), default=0)
    if alarm(outcomes):
        assert len(outcomes) >= FIRST and 2 * most >= len(outcomes)
    elif len(outcomes) >= FIRST and 2 * most >= len(outcomes):
        assert most < len(outcomes)
        assert {r for r, n in counts.items() if n == most} <= set(OF_THE_PROMPT)
