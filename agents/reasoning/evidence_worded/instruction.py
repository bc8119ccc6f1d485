"""Writes a new instruction that follows a gradient.

clause_plan.py computes what the instruction must contain; the language model only words it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from rapidfuzz import fuzz

from bigpe.agents.evidence.mixed_model import EvidenceRow, PairedComparison
from bigpe.agents.evidence.terms import contains_term, one_line, subject_words, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.parts import Gradient, RefusalCode
from bigpe.agents.reasoning.asking import Exchange, Fault, answer_in
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.evidence_worded.clause_plan import (
    ClausePlan,
    clauses_of,
    listed,
    plan_clauses,
    split_clauses,
)
from bigpe.agents.reasoning.interface import Proposal, Rejection
from bigpe.agents.reasoning.rules import EMBEDDED_PROPOSALS, RoleRules
from bigpe.prompts.templates import template
from bigpe.services.core.values import Exemplar, Instruction, Json, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn, few_shot

MAX_TEXT_WORDS = 34
MAX_EXEMPLAR_WORDS = 40
EXEMPLARS = 3
WON_EXEMPLARS = 1
"""Maximum number of exemplars from won comparisons; the others contain the clauses only."""
NEAR_COPY = 92.0
MAX_PROFESSIONAL = 2
"""Maximum number of professional prompts in the request."""
_SHAPE = "the model's answer was no instruction"
_WANTED = "Answer with one JSON object of the field instruction."
SCHEMA: Json = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "maxLength": 300}},
    "required": ["instruction"],
    "additionalProperties": False,
}


class _Refused(NamedTuple):
    """Why a candidate is refused."""

    code: RefusalCode
    text: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    instruction: str


async def propose(
    llm: LlmClient,
    gradient: Gradient,
    rows: Sequence[EvidenceRow],
    *,
    parent: Instruction,
    professional: Sequence[str],
    pairs: Sequence[PairedComparison],
    living: Sequence[Instruction],
    batch_prompts: Sequence[str],
    seed: int,
    constraints: Constraints = NONE,
    rules: RoleRules = EMBEDDED_PROPOSALS,
) -> Proposal | Rejection:
    """Return an instruction that follows the gradient, or the reasons why there is none.

    Candidates are the wordings of the model, then the composed text. The first valid one wins.
    """
    plan = plan_clauses(
        rows,
        gradient.evidence,
        parent=parent,
        living=living,
        professional=professional,
        batch_prompts=batch_prompts,
        seed=seed,
        constraints=constraints,
    )
    exemplars = _exemplars(plan, parent, pairs)
    check = _Check(plan, living, professional, batch_prompts, constraints)
    composed = Instruction(text=plan.text(), exemplars=exemplars)
    composed_fault = check.fault(composed)
    faults = [composed_fault] if composed_fault else []
    if composed_fault and composed_fault.code == "near-copy":
        return _rejection(faults, AnswerFault.NEAR_COPY, {})  # another wording has the same clauses
    exchange = Exchange(llm, rules)

    def request(index: int) -> LlmRequest:
        own_seed = derive_seed(seed, "proposal", index)
        return _request(gradient, plan, professional, own_seed, rules)

    judge = _Judge(check, exemplars, faults, rules)
    done = await exchange.obtain(request, judge, _WANTED)
    if not isinstance(done, Fault):
        return Proposal(instruction=done, composed=False, **exchange.fields())
    if composed_fault is None:
        return Proposal(instruction=composed, composed=True, fault=done.code, **exchange.fields())
    return _rejection(faults, done.code, exchange.fields())


@dataclass
class _Judge:
    """Reads an answer; keeps the reasons why candidates are refused."""

    check: _Check
    exemplars: tuple[Exemplar, ...]
    faults: list[_Refused]
    rules: RoleRules

    def __call__(self, raw: str) -> Instruction | Fault:
        """The instruction in an answer."""
        answer = answer_in(raw, _Answer, self.rules)
        if answer is None or not (text := one_line(answer.instruction)):
            self.faults.append(_Refused("invalid", _SHAPE))
            return Fault(AnswerFault.SHAPE, _SHAPE)
        worded = Instruction(text=text, exemplars=self.exemplars)
        if (refused := self.check.fault(worded)) is None:
            return worded
        self.faults.append(refused)
        return Fault(AnswerFault.INVALID, refused.text)


def _rejection(
    faults: Sequence[_Refused], last: AnswerFault, exchange: Mapping[str, Any]
) -> Rejection:
    near_copy = any(fault.code == "near-copy" for fault in faults)
    return Rejection(
        code="near-copy" if near_copy else "invalid",
        fault=AnswerFault.NEAR_COPY if near_copy else last,
        reasons=tuple(fault.text for fault in faults),
        **exchange,
    )


# -- exemplars ------------------------------------------------------------------------------------


def _exemplars(
    plan: ClausePlan, parent: Instruction, pairs: Sequence[PairedComparison]
) -> tuple[Exemplar, ...]:
    """Won comparisons that contain the clauses, then subjects of the parent with the clauses."""
    chosen: list[Exemplar] = []
    for pair in pairs:
        fits = all(contains_term(pair.rewrite, clause) for clause in plan.clauses)
        clean = not any(contains_term(pair.rewrite, term) for term in plan.avoid)
        short = len(words(pair.rewrite)) <= MAX_EXEMPLAR_WORDS
        if plan.clauses and fits and clean and short and len(chosen) < WON_EXEMPLARS:
            chosen.append(Exemplar(naive=pair.naive, rewrite=pair.rewrite))
    for index, exemplar in enumerate(parent.exemplars):
        if len(chosen) < EXEMPLARS and exemplar.naive not in {e.naive for e in chosen}:
            clauses = list(plan.clauses) or _own(exemplar, plan)
            # Each exemplar has its own order: the model should learn the clauses, not a sequence.
            turned = clauses[index % len(clauses) :] + clauses[: index % len(clauses)]
            chosen.append(
                Exemplar(naive=exemplar.naive, rewrite=", ".join([exemplar.naive, *turned]))
            )
    return tuple(chosen[:EXEMPLARS])


def _own(exemplar: Exemplar, plan: ClausePlan) -> list[str]:
    """The clauses of the exemplar without the avoided terms; never empty."""
    own = [
        clause
        for clause in split_clauses(exemplar.rewrite)[1:]
        if not any(contains_term(clause, term) for term in plan.avoid)
    ]
    return own or ["seen at rest"]


# -- validity -------------------------------------------------------------------------------------


class _Check:
    """The checks that every candidate must pass."""

    def __init__(
        self,
        plan: ClausePlan,
        living: Sequence[Instruction],
        professional: Sequence[str],
        batch_prompts: Sequence[str],
        constraints: Constraints,
    ) -> None:
        self._plan = plan
        self._living = living
        self._constraints = constraints
        prompts = [*batch_prompts, *professional[:MAX_PROFESSIONAL]]
        subjects = {word for prompt in prompts for word in subject_words(prompt)}
        required = {
            word for part in (plan.base, *plan.clauses, *plan.avoid) for word in words(part)
        }
        self._subjects = subjects - required

    def fault(self, candidate: Instruction) -> _Refused | None:
        """Why the candidate is refused; None if it is valid."""
        if text := self._invalid(candidate):
            return _Refused("invalid", text)
        for other in self._living:
            if _near_copy(candidate, other):
                return _Refused("near-copy", f"a near-copy of {other.id[:8]}")
        return None

    def _invalid(self, candidate: Instruction) -> str | None:
        if fault := self._constraints.fault_of_instruction(candidate):
            return fault
        text = candidate.text
        missing = [clause for clause in self._plan.clauses if not contains_term(text, clause)]
        if missing:
            return f"it does not name {', '.join(missing)}"
        if len(words(text)) > MAX_TEXT_WORDS:
            return f"it is longer than {MAX_TEXT_WORDS} words"
        clauses = [clause.removeprefix("and ") for clause in split_clauses(text)]
        if len(set(clauses)) < len(clauses):
            return "it repeats itself"
        named = sorted(self._subjects & set(words(text)))
        if named:
            return f"it names subjects of the prompts it saw ({', '.join(named)})"
        return None


def _near_copy(a: Instruction, b: Instruction) -> bool:
    same_clauses = set(clauses_of(a)) == set(clauses_of(b))
    alike = fuzz.ratio(a.text.casefold(), b.text.casefold()) >= NEAR_COPY
    return same_clauses and (alike or bool(clauses_of(a)))


def _request(
    gradient: Gradient,
    plan: ClausePlan,
    professional: Sequence[str],
    seed: int,
    rules: RoleRules,
) -> LlmRequest:
    text = template("modifier")
    turns = few_shot(text.system, text.examples)
    lines = [
        f"professional: {one_line(prompt)[:240]}" for prompt in professional[:MAX_PROFESSIONAL]
    ]
    lines += [f"improvement: {one_line(gradient.improvement)}", f"present: {plan.base}."]
    # Last, because a small model goes by what it read last.
    lines += [f"name: {listed(plan.clauses)}"] if plan.clauses else []
    lines += [f"leave out: {listed(plan.avoid)}"] if plan.avoid else []
    turns.append(Turn(role="user", text="\n".join(lines)))
    return LlmRequest(
        turns=tuple(turns),
        seed=seed,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        answer_schema=SCHEMA,
    )
