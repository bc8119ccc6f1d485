"""From a gradient to a new instruction: what it must contain is computed, the model words it.

An instruction's *clauses* are what its exemplars have in common: the part of a prompt that it
adds to every subject. A new instruction is its parent with clauses added and dropped; clauses that
have shown to work are handed on, whichever living instruction has them (docs/decisions/0025).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from rapidfuzz import fuzz

from bigpe.agents.constraints import NONE, Constraints
from bigpe.agents.evidence import TINY, Z95, EvidenceRow, Pair
from bigpe.agents.messages import Gradient, RefusalCode
from bigpe.agents.terms import contains_term, one_line, subject_words, words
from bigpe.prompts.templates import template
from bigpe.services.errors import UnusableAnswerError
from bigpe.services.llm import Asks, LlmRequest, Turn, few_shot
from bigpe.services.values import (
    Exemplar,
    Instruction,
    Json,
    LlmUsage,
    Value,
    derive_seed,
)

MAX_CLAUSES = 6
EXPLORED = 4
"""Clauses that are tried for the first time, at most: one batch then speaks of all of them."""
SUPPORT = 0.6
"""Deviations by which a clause's effect must lie above 0 for it to be handed on."""
MAX_TEXT_WORDS = 34
MAX_BASE_WORDS = 12
MAX_EXEMPLAR_WORDS = 40
MAX_CLAUSE_WORDS = 4
EXEMPLARS = 3
WON_EXEMPLARS = 1
"""Exemplars taken from comparisons that won; the others show the clauses bare."""
NEAR_COPY = 92.0
SHOWN = 2
"""Professional prompts in the request."""
CANDIDATES = 2
TEMPERATURE = 0.3
MAX_TOKENS = 80
_JOINING = re.compile(
    r"(?:[\s,.;:]+|\b(?:with|and|an?|the|in|of|include|including|such as|like)\b)+$", re.I
)
SCHEMA: Json = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "maxLength": 300}},
    "required": ["instruction"],
    "additionalProperties": False,
}


class Proposal(Value):
    """A new instruction."""

    instruction: Instruction
    composed: bool
    """True when the computed text was used, not the model's."""
    turns: tuple[Turn, ...] = ()
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


class Rejection(Value):
    """The reasons why no valid instruction follows from a gradient."""

    code: RefusalCode
    """"near-copy" when any candidate was one, else "invalid"."""
    reasons: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


class _Fault(NamedTuple):
    """Why a candidate is refused."""

    code: RefusalCode
    text: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    instruction: str


class _Recipe(NamedTuple):
    """What the new instruction must be."""

    base: str
    clauses: tuple[str, ...]
    avoid: tuple[str, ...]

    def text(self) -> str:
        parts = [f"{self.base}."]
        if self.clauses:
            parts.append(f"Include {_listed(self.clauses)}.")
        if self.avoid:
            parts.append(f"Leave out {_listed(self.avoid)}.")
        return " ".join(parts)


def _listed(terms: Sequence[str]) -> str:
    return terms[0] if len(terms) == 1 else f"{', '.join(terms[:-1])} and {terms[-1]}"


async def propose(
    llm: Asks,
    gradient: Gradient,
    rows: Sequence[EvidenceRow],
    *,
    parent: Instruction,
    professional: Sequence[str],
    pairs: Sequence[Pair],
    living: Sequence[Instruction],
    batch_prompts: Sequence[str],
    seed: int,
    constraints: Constraints = NONE,
) -> Proposal | Rejection:
    """One instruction that follows the gradient, or why there is none.

    Candidates are the model's wordings, then the composed text; the first valid one is taken.
    """
    known = tuple(dict.fromkeys(c for one in (parent, *living) for c in clauses_of(one)))
    recipe = _recipe(gradient, rows, parent, known, professional, batch_prompts, seed, constraints)
    exemplars = _exemplars(recipe, parent, pairs)
    subjects = _subjects_of([*batch_prompts, *professional[:SHOWN]], recipe)
    composed = Instruction(text=recipe.text(), exemplars=exemplars)
    faults = [f for f in (_fault(composed, recipe, living, subjects, constraints),) if f]
    if faults and faults[0].code == "near-copy":
        return _rejection(faults)  # other words would not make it another instruction
    turns: tuple[Turn, ...] = ()
    usage = LlmUsage()
    keys: tuple[str, ...] = ()
    for index in range(CANDIDATES):
        request = _request(gradient, recipe, professional, derive_seed(seed, "proposal", index))
        try:
            answer = await llm.ask(request)
        except UnusableAnswerError as error:
            turns = (*request.turns, Turn(role="assistant", text=error.raw))
            usage += error.usage
            continue
        turns = (*request.turns, Turn(role="assistant", text=answer.text))
        usage += answer.usage
        keys += (answer.effect_key,)
        text = _parse(answer.text)
        if text is None:
            faults.append(_Fault("invalid", "the model's answer was no instruction"))
            continue
        worded = Instruction(text=text, exemplars=exemplars)
        fault = _fault(worded, recipe, living, subjects, constraints)
        if fault is None:
            return Proposal(
                instruction=worded, composed=False, turns=turns, usage=usage, effect_keys=keys
            )
        faults.append(fault)
    if _fault(composed, recipe, living, subjects, constraints) is None:
        return Proposal(
            instruction=composed, composed=True, turns=turns, usage=usage, effect_keys=keys
        )
    return _rejection(faults, turns=turns, usage=usage, effect_keys=keys)


def _rejection(faults: Sequence[_Fault], **exchange: Any) -> Rejection:
    near_copy = any(fault.code == "near-copy" for fault in faults)
    return Rejection(
        code="near-copy" if near_copy else "invalid",
        reasons=tuple(fault.text for fault in faults),
        **exchange,
    )


# -- what it must contain -------------------------------------------------------------------------


def clauses_of(instruction: Instruction) -> tuple[str, ...]:
    """The clauses that at least two exemplars share, in the order of the first that has them."""
    split = [_clauses(exemplar.rewrite) for exemplar in instruction.exemplars]
    shared: list[str] = []
    for clauses in split:
        for clause in clauses:
            common = sum(clause in other for other in split) >= 2
            if common and clause not in shared:
                shared.append(clause)
    return tuple(shared)


def _clauses(text: str) -> list[str]:
    return [clause for part in text.split(",") if (clause := " ".join(words(part)))]


def _recipe(
    gradient: Gradient,
    rows: Sequence[EvidenceRow],
    parent: Instruction,
    known: Sequence[str],
    professional: Sequence[str],
    batch_prompts: Sequence[str],
    seed: int,
    constraints: Constraints,
) -> _Recipe:
    """`known`: the clauses that may be handed on, the parent's first."""
    cited = [row for row in rows if row.id in gradient.evidence]
    add = constraints.allowed([row.term for row in cited if row.effect > 0])
    # What is forbidden need not be avoided, and to name it would be to say it.
    avoid = constraints.allowed([row.term for row in cited if row.effect <= 0])
    required = [" ".join(words(term)) for term in constraints.required]
    terms = [row for row in rows if row.kind == "term"]
    effects = {row.term: row.effect for row in terms}
    sure = {row.term: 2 * Z95 * row.effect / max(row.hi - row.lo, TINY) for row in terms}
    kept = [c for c in known if not any(contains_term(c, term) for term in avoid)]
    kept = [c for c in kept if _effect(c, sure) > SUPPORT and c not in required]
    kept.sort(key=lambda clause: -_effect(clause, sure))
    kept = required + _apart(constraints.allowed(kept), MAX_CLAUSES)
    clauses = kept + [term for term in add if not any(contains_term(c, term) for c in kept)]
    untold = _untold(professional, clauses, effects, batch_prompts, seed)
    new = _apart(constraints.allowed(untold), max(1, min(EXPLORED, MAX_CLAUSES - len(clauses))))
    while len(clauses) + len(new) > MAX_CLAUSES and len(clauses) > len(required):
        free = [clause for clause in clauses if clause not in required]
        clauses.remove(min(free, key=lambda clause: (_effect(clause, effects), clause)))
    return _Recipe(_base(parent), (*clauses, *new), tuple(avoid))


def _base(parent: Instruction) -> str:
    """What the parent asks for before it names its clauses: "Add details" of most."""
    text = re.split(r"(?<=\.)\s+(?:Include|Leave out)\b", parent.text)[0]
    whole = (rf"(?<!\w){re.escape(clause)}(?!\w)" for clause in clauses_of(parent))
    found = [match.start() for clause in whole if (match := re.search(clause, text, re.I))]
    head = _JOINING.sub("", text[: min(found)] if found else text)
    return " ".join(head.split()[:MAX_BASE_WORDS]) or "Add details"


def _effect(clause: str, effects: dict[str, float]) -> float:
    """The clause's measured effect: its own, or that of the longest term within it; else none."""
    within = [term for term in effects if contains_term(clause, term)]
    return effects[max(within, key=lambda term: (len(term), term))] if within else 0.0


def _untold(
    professional: Sequence[str],
    clauses: Sequence[str],
    effects: dict[str, float],
    batch_prompts: Sequence[str],
    seed: int,
) -> list[str]:
    """Clauses of the retrieved professional prompts that nothing speaks against, shuffled."""
    banned = {word for naive in batch_prompts for word in words(naive)}
    taken = {word for clause in clauses for word in words(clause)}
    found = {
        clause
        for prompt in professional
        for clause in _clauses(prompt)[1:]
        if len(clause.split()) <= MAX_CLAUSE_WORDS
        and not set(clause.split()) & (banned | taken)
        and _effect(clause, effects) >= 0
    }
    return random.Random(seed).sample(sorted(found), len(found))


def _apart(clauses: Sequence[str], count: int) -> list[str]:
    """The first `count` that share no word with an earlier one."""
    kept: list[str] = []
    for clause in clauses:
        told = {word for other in kept for word in other.split()}
        if len(kept) < count and not told & set(clause.split()):
            kept.append(clause)
    return kept


def _exemplars(recipe: _Recipe, parent: Instruction, pairs: Sequence[Pair]) -> tuple[Exemplar, ...]:
    """Comparisons that won under such words first, then the parent's subjects with the clauses."""
    chosen: list[Exemplar] = []
    for pair in pairs:
        fits = all(contains_term(pair.rewrite, clause) for clause in recipe.clauses)
        clean = not any(contains_term(pair.rewrite, term) for term in recipe.avoid)
        short = len(words(pair.rewrite)) <= MAX_EXEMPLAR_WORDS
        if recipe.clauses and fits and clean and short and len(chosen) < WON_EXEMPLARS:
            chosen.append(Exemplar(naive=pair.naive, rewrite=pair.rewrite))
    for index, exemplar in enumerate(parent.exemplars):
        if len(chosen) < EXEMPLARS and exemplar.naive not in {e.naive for e in chosen}:
            clauses = list(recipe.clauses) or _own(exemplar, recipe)
            # Another order each time: the model should learn the clauses, not the sequence.
            turned = clauses[index % len(clauses) :] + clauses[: index % len(clauses)]
            chosen.append(
                Exemplar(naive=exemplar.naive, rewrite=", ".join([exemplar.naive, *turned]))
            )
    return tuple(chosen[:EXEMPLARS])


def _own(exemplar: Exemplar, recipe: _Recipe) -> list[str]:
    """The exemplar's own clauses without the avoided terms; at least something."""
    own = [
        clause
        for clause in _clauses(exemplar.rewrite)[1:]
        if not any(contains_term(clause, term) for term in recipe.avoid)
    ]
    return own or ["seen at rest"]


def _subjects_of(prompts: Sequence[str], recipe: _Recipe) -> frozenset[str]:
    """The words that the prompts are about, less those that the instruction must name."""
    asked = {word for part in (recipe.base, *recipe.clauses, *recipe.avoid) for word in words(part)}
    return frozenset(word for prompt in prompts for word in subject_words(prompt)) - asked


# -- what is valid --------------------------------------------------------------------------------


def _fault(
    candidate: Instruction,
    recipe: _Recipe,
    living: Sequence[Instruction],
    subjects: frozenset[str],
    constraints: Constraints,
) -> _Fault | None:
    if fault := _invalid(candidate, recipe, subjects, constraints):
        return _Fault("invalid", fault)
    for other in living:
        if _near_copy(candidate, other):
            return _Fault("near-copy", f"a near-copy of {other.id[:8]}")
    return None


def _invalid(
    candidate: Instruction,
    recipe: _Recipe,
    subjects: frozenset[str],
    constraints: Constraints,
) -> str | None:
    if fault := constraints.fault_of_instruction(candidate):
        return fault
    missing = [clause for clause in recipe.clauses if not contains_term(candidate.text, clause)]
    if missing:
        return f"it does not name {', '.join(missing)}"
    if len(words(candidate.text)) > MAX_TEXT_WORDS:
        return f"it is longer than {MAX_TEXT_WORDS} words"
    told = [clause.removeprefix("and ") for clause in _clauses(candidate.text)]
    if len(set(told)) < len(told):
        return "it repeats itself"
    named = sorted(subjects & set(words(candidate.text)))
    if named:
        return f"it names subjects of the prompts it saw ({', '.join(named)})"
    return None


def _near_copy(a: Instruction, b: Instruction) -> bool:
    same_clauses = set(clauses_of(a)) == set(clauses_of(b))
    alike = fuzz.ratio(a.text.casefold(), b.text.casefold()) >= NEAR_COPY
    return same_clauses and (alike or bool(clauses_of(a)))


def _parse(raw: str) -> str | None:
    try:
        text = _Answer.model_validate(json.loads(raw)).instruction
    except (ValueError, RecursionError):  # no JSON, JSON of another shape, or too deep or long
        return None
    return one_line(text) or None


def _request(
    gradient: Gradient,
    recipe: _Recipe,
    professional: Sequence[str],
    seed: int,
) -> LlmRequest:
    text = template("modifier")
    turns = few_shot(text.system, text.examples)
    lines = [f"professional: {one_line(prompt)[:240]}" for prompt in professional[:SHOWN]]
    lines += [f"improvement: {one_line(gradient.improvement)}", f"present: {recipe.base}."]
    # Last, because a small model goes by what it read last.
    lines += [f"name: {_listed(recipe.clauses)}"] if recipe.clauses else []
    lines += [f"leave out: {_listed(recipe.avoid)}"] if recipe.avoid else []
    turns.append(Turn(role="user", text="\n".join(lines)))
    return LlmRequest(
        turns=tuple(turns),
        seed=seed,
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
        answer_schema=SCHEMA,
    )
