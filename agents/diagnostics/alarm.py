"""The alarm: most of the first rewrites cannot be used, all for one reason.

Then a run or an evaluation stops before it pays for more. See `AnswerFault` for the reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.services.core.values import Value

FIRST = 6
"""Fewest rewrites that the alarm judges."""
OF_THE_PROMPT = frozenset(
    {AnswerFault.UNCHANGED, AnswerFault.SUBJECT, AnswerFault.CONSTRAINT, AnswerFault.GATE}
)
"""Reasons that also good models give for some prompts; the alarm needs them for all rewrites."""
LOOK = "look at the answers with `bigpe inspect --type LlmTurn`"
LIMIT = "raise the generator's token limit, or let the model think less"
REMEDIES = {
    AnswerFault.REFUSED: "choose another model, or prompts and instructions that it accepts",
    AnswerFault.LENGTH: LIMIT,
    AnswerFault.ONLY_THOUGHT: LIMIT,
    AnswerFault.EMPTY: f"{LIMIT}; {LOOK}",
    AnswerFault.CONSTRAINT: "loosen [constraints]",
    AnswerFault.GATE: "see what the gate refuses, or take it out of [roles]",
}


class RewriteOutcome(Value):
    """A requested rewrite and why it cannot be used."""

    naive: str
    reason: str = ""
    """The class of the fallback or of the error; empty for a usable rewrite."""
    cause: str = ""
    """The reason in words."""
    failed: bool = False
    """Whether the call failed, so that there is no answer."""


def outcome_of(naive: str, fallback: str | None, fault: AnswerFault | None) -> RewriteOutcome:
    """The outcome of an answered request."""
    if fallback is None:
        return RewriteOutcome(naive=naive)
    return RewriteOutcome(naive=naive, reason=fault.value if fault else fallback, cause=fallback)


def alarm(outcomes: Sequence[RewriteOutcome]) -> str | None:
    """Why to stop, with an example and the remedy; None if there is no reason to."""
    total = len(outcomes)
    for reason, count in _by_number(outcomes):
        needed = total if reason in OF_THE_PROMPT else total / 2
        if total >= FIRST and count >= needed:
            return f"{count} of the first {total} rewrites {_explained(outcomes, reason)}"
    return None


def explained(outcomes: Sequence[RewriteOutcome]) -> str:
    """The most common reason of unusable rewrites, an example, and the remedy; "" if none is."""
    reasons = _by_number(outcomes)
    return _explained(outcomes, reasons[0][0]) if reasons else ""


def _explained(outcomes: Sequence[RewriteOutcome], reason: str) -> str:
    example = next(outcome for outcome in outcomes if outcome.reason == reason)
    what = "failed" if example.failed else "could not be used"
    text = f"{what}, for example for {example.naive!r}: {example.cause}"
    if example.failed:
        return text  # the error names its remedy
    remedy = REMEDIES.get(AnswerFault(reason)) if reason in set(AnswerFault) else None
    return f"{text}; {remedy or f'{LOOK}, or choose another model'}"


def _by_number(outcomes: Sequence[RewriteOutcome]) -> list[tuple[str, int]]:
    """The reasons with their numbers, the most common first."""
    counts = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
