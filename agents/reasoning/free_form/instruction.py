"""New instructions by a model that reasons: an operator, the parent, and all results so far."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bigpe.agents.evidence.terms import one_line, subject_named
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import ProposalRequested
from bigpe.agents.messages.parts import Gradient
from bigpe.agents.messages.search import InstructionRecord, Operator, SearchState
from bigpe.agents.reasoning.answers.objects import find_object
from bigpe.agents.reasoning.asking import Exchange, Fault
from bigpe.agents.reasoning.free_form import tables
from bigpe.agents.reasoning.free_form.exemplars import won_exemplars
from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import Proposal, Rejection
from bigpe.agents.reasoning.rewriting import word_count
from bigpe.agents.reasoning.rules import RoleRules
from bigpe.services.core.values import Instruction, Json, cut_text, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn

PROFESSIONAL = 5
"""Professional prompts in a request."""
BEST, WORST = 3, 2
"""Rewrites of the last batch in a request: those with the highest and the lowest gains."""
MAX_CHANGE = 300
"""Characters of a change in one line."""
_NO_OBJECT = "it held no JSON object of that form"
_WANTED = "Answer with the JSON object that the task describes, and nothing else."
SCHEMA: Json = {
    "type": "object",
    "properties": {"instruction": {"type": "string"}, "change": {"type": "string"}},
    "required": ["instruction", "change"],
    "additionalProperties": False,
}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    instruction: str = Field(min_length=1)
    change: str = ""


class _Task(NamedTuple):
    """What one proposal starts from."""

    gradient: Gradient
    operator: Operator
    partner: InstructionRecord | None
    """The other instruction of a merge."""


async def write_instruction(
    llm: LlmClient,
    request: ProposalRequested,
    gradient: Gradient,
    operator: Operator,
    professional: Sequence[str],
    seed: int,
    rules: RoleRules,
    settings: FreeFormSettings,
) -> Proposal | Rejection:
    """The instruction that an operator makes of the parent, or why there is none.

    An answer that breaks a rule is asked for again, with the rule named.

    Raises:
        ValueError: The request holds no search (`CampaignPlan.studies` is false).
    """
    if request.search is None:
        raise ValueError("an instruction in free form needs the state of its search")
    partner = merge_partner(request.search) if operator == "merge" else None
    task = _Task(gradient, operator, partner)
    text = tables.fit(
        lambda limit: _text(request, task, professional, limit), settings.request_tokens
    )
    exemplars = won_exemplars(request.pairs, settings.exemplars)
    exchange = Exchange(llm, rules)
    faults: list[Fault] = []

    def request_at(index: int) -> LlmRequest:
        at = derive_seed(seed, index)
        return _request(text, operator, request.instruction, at, rules, settings)

    def judge(raw: str) -> Proposal | Fault:
        answer = find_object(raw, _Answer)
        if answer is None:
            return Fault(AnswerFault.SHAPE, _NO_OBJECT)
        candidate = Instruction(text=tidy(answer.instruction) or "-", exemplars=exemplars)
        if found := _fault(candidate, request, operator, settings):
            faults.append(found)
            return found
        change = one_line(answer.change) or one_line(gradient.improvement)
        return Proposal(instruction=candidate, composed=False, change=cut_text(change, MAX_CHANGE))

    done = await exchange.obtain(request_at, judge, _WANTED)
    if not isinstance(done, Fault):
        return done.model_copy(update=exchange.fields())
    copies = [fault.code == AnswerFault.NEAR_COPY for fault in faults]
    return Rejection(
        code="near-copy" if copies and all(copies) else "invalid",
        reasons=tuple(fault.text for fault in faults) or (done.text,),
        fault=done.code,
        **exchange.fields(),
    )


def merge_partner(search: SearchState) -> InstructionRecord | None:
    """The instruction that wins on the most prompts on which the own one does not; then the best.

    None if no other instruction has results.
    """
    own = search.own
    others = [r for r in search.records if r.instruction.id != own.instruction.id]
    if not others:
        return None
    return max(
        others,
        key=lambda r: (len(set(r.won) - set(own.won)), r.mean or 0.0, r.instruction.id),
    )


def tidy(text: str) -> str:
    """An instruction with its lines, without blanks at their ends and without empty lines twice."""
    lines = [re.sub(r"[ \t]+", " ", line).rstrip() for line in text.strip().splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _fault(
    candidate: Instruction,
    request: ProposalRequested,
    operator: Operator,
    settings: FreeFormSettings,
) -> Fault | None:
    """Why a candidate is refused; None if it is valid."""
    if broken := settings.constraints.fault_of_instruction(candidate):
        return Fault(AnswerFault.CONSTRAINT, broken)
    length, parent = word_count(candidate.text), request.instruction
    if length > (most := _most_words(parent, settings)):
        text = f"the instruction has {length} words, more than {most}"
        return Fault(AnswerFault.TOO_LONG, text)
    if operator == "condense" and 2 * length > word_count(parent.text) + 1:
        text = f"the condensed instruction has {length} words, more than half of the present one"
        return Fault(AnswerFault.TOO_LONG, text)
    for other in (parent, *request.living):
        if _spelled(other.text) == _spelled(candidate.text):
            text = f"the instruction is the same as {other.id[:8]}"
            return Fault(AnswerFault.NEAR_COPY, text)
    named = [naive for naive in request.batch if _names(candidate.text, naive, parent.text)]
    if named:
        text = (
            f"the instruction names the subject of a prompt that it saw ({cut_text(named[0], 80)})"
        )
        return Fault(AnswerFault.SUBJECT, text)
    return None


def _most_words(parent: Instruction, settings: FreeFormSettings) -> int:
    """The limit; a longer instruction of the user's own may be kept at its length."""
    return max(settings.max_instruction_words, word_count(parent.text))


def _names(text: str, naive: str, parent: str) -> bool:
    """Whether `text` names the whole subject of `naive`, and `parent` does not."""
    return subject_named(naive, text) and not subject_named(naive, parent)


def _spelled(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()


def _request(
    text: str,
    operator: Operator,
    parent: Instruction,
    seed: int,
    rules: RoleRules,
    settings: FreeFormSettings,
) -> LlmRequest:
    frame = settings.templates.of("modifier")
    system = frame.system_with(
        painter=settings.painter,
        scorer=settings.scorer,
        operator=frame.parts[operator],
        constraints=_constraints(settings),
        words=str(_most_words(parent, settings)),
    )
    return LlmRequest(
        turns=(Turn(role="system", text=system), Turn(role="user", text=text)),
        seed=seed,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        answer_schema=SCHEMA,
    )


def _constraints(settings: FreeFormSettings) -> str:
    rules = settings.constraints
    lines = [f"Rewrites must contain: {', '.join(rules.required)}."] if rules.required else []
    if rules.banned:
        lines.append(
            f"Neither the instruction nor a rewrite may contain: {', '.join(rules.banned)}."
        )
    if rules.artists:
        lines.append("Neither the instruction nor a rewrite may name an artist.")
    if rules.max_tokens:
        lines.append(f"A rewrite has at most {rules.max_tokens} CLIP tokens.")
    return "\n".join(lines)


def _text(
    request: ProposalRequested,
    task: _Task,
    professional: Sequence[str],
    limit: int,
) -> str:
    search, parent = request.search, request.instruction
    assert search is not None
    other = ""
    if task.partner is not None:
        other = (
            f"{tables.quoted(task.partner.instruction.text)}\n"
            f"Its record: {tables.record(task.partner)}."
        )
    examples = "\n".join(f"- {tables.shortened(text, limit)}" for text in professional)
    return tables.sections(
        (
            (
                "The present instruction",
                f"{tables.quoted(parent.text)}\n"
                f"Its record before the last batch: {tables.record(search.own)} "
                "(gains are score x 100).",
            ),
            ("Examples that come with it", tables.exemplars(parent, limit)),
            ("The other instruction", other),
            (
                "What the last batch says",
                f"Finding: {tables.shortened(task.gradient.inference, 2 * limit)}\n"
                f"Improvements: {tables.shortened(task.gradient.improvement, 2 * limit)}",
            ),
            (
                "Rewrites of the last batch, from the highest to the lowest gain",
                tables.batch(tables.best_and_worst(request.gains, BEST, WORST), limit),
            ),
            (
                "Other instructions with results, best first",
                tables.leaderboard(search, task.partner, limit),
            ),
            ("Changes that were tried", tables.tried(search.tried, parent.id, limit)),
            (
                "Professional prompts, never scored: only for the dimensions that they fill",
                examples,
            ),
        )
    )
