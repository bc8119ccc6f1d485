"""Which clauses a new instruction names, and which terms it leaves out.

The *clauses* of an instruction are what its exemplars share: the part of a prompt that the
instruction adds to every subject. A plan keeps the existing clauses with a positive effect, adds
the terms that the gradient cites, and adds clauses that no run has measured yet
(docs/decisions/0025).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bigpe.agents.evidence.mixed_model import TINY, Z95, EvidenceRow
from bigpe.agents.evidence.terms import contains_term, words
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.services.core.values import Instruction

MAX_CLAUSES = 6
EXPLORED = 4
"""Maximum number of unmeasured clauses in one plan. One batch then measures all of them."""
SUPPORT = 0.6
"""Minimum z value of an inherited clause: its effect in standard errors."""
MAX_BASE_WORDS = 12
MAX_CLAUSE_WORDS = 4
_JOINING = re.compile(
    r"(?:[\s,.;:]+|\b(?:with|and|an?|the|in|of|include|including|such as|like)\b)+$", re.I
)


class ClausePlan(NamedTuple):
    """The required content of a new instruction."""

    base: str
    """What the instruction asks for before it names its clauses."""
    clauses: tuple[str, ...]
    avoid: tuple[str, ...]

    def text(self) -> str:
        """The instruction in fixed sentences, without a language model."""
        parts = [f"{self.base}."]
        if self.clauses:
            parts.append(f"Include {listed(self.clauses)}.")
        if self.avoid:
            parts.append(f"Leave out {listed(self.avoid)}.")
        return " ".join(parts)


class WantedTerms(NamedTuple):
    """The terms of the cited evidence, by the sign of their effect."""

    add: list[str]
    avoid: list[str]


class TermEffects:
    """Measured effects of terms, looked up by clause.

    The longest measured term inside a clause stands for the clause. A clause without a measured
    term has the effect 0.
    """

    def __init__(self, rows: Iterable[EvidenceRow]) -> None:
        terms = [row for row in rows if row.kind == "term"]
        self._effects = {row.term: row.effect for row in terms}
        self._z = {row.term: 2 * Z95 * row.effect / max(row.hi - row.lo, TINY) for row in terms}

    def effect(self, clause: str) -> float:
        """The effect of the clause on the gain, in score units."""
        return self._look_up(clause, self._effects)

    def z(self, clause: str) -> float:
        """The effect of the clause in standard errors."""
        return self._look_up(clause, self._z)

    def _look_up(self, clause: str, values: Mapping[str, float]) -> float:
        inside = [term for term in values if contains_term(clause, term)]
        return values[max(inside, key=lambda term: (len(term), term))] if inside else 0.0


def plan_clauses(
    rows: Sequence[EvidenceRow],
    cited: Sequence[str],
    *,
    parent: Instruction,
    living: Sequence[Instruction],
    professional: Sequence[str],
    batch_prompts: Sequence[str],
    seed: int,
    constraints: Constraints,
) -> ClausePlan:
    """The content of a new instruction.

    Args:
        rows: the evidence.
        cited: ids of the evidence rows that the gradient cites.
        parent: the instruction that the gradient improves.
        living: the instructions of the pool. Clauses are inherited from them and the parent.
        professional: prompts that unmeasured clauses are taken from.
        batch_prompts: naive prompts of the batch. No unmeasured clause repeats a word of them.
        seed: order in which unmeasured clauses are tried.
        constraints: rules of the project.
    """
    effects = TermEffects(rows)
    wanted = wanted_terms([row for row in rows if row.id in cited], constraints)
    required = [" ".join(words(term)) for term in constraints.required]
    existing = dict.fromkeys(c for source in (parent, *living) for c in clauses_of(source))
    inherited = inherited_clauses(
        [clause for clause in existing if clause not in required],
        effects,
        avoid=wanted.avoid,
        constraints=constraints,
    )
    kept = required + inherited
    clauses = kept + [
        term for term in wanted.add if not any(contains_term(clause, term) for clause in kept)
    ]
    unexplored = unexplored_clauses(
        professional, effects, planned=clauses, batch_prompts=batch_prompts, seed=seed
    )
    room = max(1, min(EXPLORED, MAX_CLAUSES - len(clauses)))
    explored = without_shared_words(constraints.allowed(unexplored), room)
    fitted = fit_to_budget(clauses, MAX_CLAUSES - len(explored), effects, required=required)
    return ClausePlan(base_of(parent), (*fitted, *explored), tuple(wanted.avoid))


def wanted_terms(cited: Sequence[EvidenceRow], constraints: Constraints) -> WantedTerms:
    """The cited terms to add (positive effect) and to avoid (all others)."""
    # Forbidden terms are not listed as avoided either: naming them makes the model use them.
    return WantedTerms(
        add=constraints.allowed([row.term for row in cited if row.effect > 0]),
        avoid=constraints.allowed([row.term for row in cited if row.effect <= 0]),
    )


def inherited_clauses(
    existing: Sequence[str],
    effects: TermEffects,
    *,
    avoid: Sequence[str],
    constraints: Constraints,
) -> list[str]:
    """The existing clauses with a supported positive effect, the highest z first."""
    supported = [
        clause
        for clause in existing
        if effects.z(clause) > SUPPORT and not any(contains_term(clause, term) for term in avoid)
    ]
    supported.sort(key=lambda clause: -effects.z(clause))
    return without_shared_words(constraints.allowed(supported), MAX_CLAUSES)


def unexplored_clauses(
    professional: Sequence[str],
    effects: TermEffects,
    *,
    planned: Sequence[str],
    batch_prompts: Sequence[str],
    seed: int,
) -> list[str]:
    """Short clauses of professional prompts without a negative effect, in random order.

    None shares a word with a planned clause or with a prompt of the batch.
    """
    excluded = {word for text in (*planned, *batch_prompts) for word in words(text)}
    found = {
        clause
        for prompt in professional
        for clause in split_clauses(prompt)[1:]
        if len(clause.split()) <= MAX_CLAUSE_WORDS
        and excluded.isdisjoint(clause.split())
        and effects.effect(clause) >= 0
    }
    return random.Random(seed).sample(sorted(found), len(found))


def fit_to_budget(
    clauses: Sequence[str], limit: int, effects: TermEffects, *, required: Sequence[str]
) -> list[str]:
    """At most `limit` clauses: those with the lowest effects are removed, never a required one."""
    surplus = max(0, len(clauses) - max(limit, len(required)))
    removable = [i for i, clause in enumerate(clauses) if clause not in required]
    removable.sort(key=lambda i: (effects.effect(clauses[i]), clauses[i]))
    removed = removable[:surplus]
    return [clause for i, clause in enumerate(clauses) if i not in removed]


def without_shared_words(clauses: Sequence[str], count: int) -> list[str]:
    """The first `count` clauses that share no word with an earlier clause of the result."""
    kept: list[str] = []
    used: set[str] = set()
    for clause in clauses:
        if len(kept) < count and used.isdisjoint(clause.split()):
            kept.append(clause)
            used |= set(clause.split())
    return kept


def clauses_of(instruction: Instruction) -> tuple[str, ...]:
    """The clauses that at least two exemplars share, in the order of their first occurrence."""
    split = [split_clauses(exemplar.rewrite) for exemplar in instruction.exemplars]
    in_order = dict.fromkeys(clause for clauses in split for clause in clauses)
    return tuple(clause for clause in in_order if sum(clause in clauses for clauses in split) >= 2)


def split_clauses(text: str) -> list[str]:
    """The parts of `text` between commas, in one spelling."""
    return [clause for part in text.split(",") if (clause := " ".join(words(part)))]


def base_of(parent: Instruction) -> str:
    """The text of the parent before its first clause; "Add details" for most instructions."""
    return " ".join(_head(parent).split()[:MAX_BASE_WORDS]) or "Add details"


def keeps_base(parent: Instruction) -> bool:
    """Whether children keep all words of the parent before its first clause."""
    return len(_head(parent).split()) <= MAX_BASE_WORDS


def _head(parent: Instruction) -> str:
    text = re.split(r"(?<=\.)\s+(?:Include|Leave out)\b", parent.text)[0]
    patterns = (rf"(?<!\w){re.escape(clause)}(?!\w)" for clause in clauses_of(parent))
    found = [match.start() for p in patterns if (match := re.search(p, text, re.I))]
    return _JOINING.sub("", text[: min(found)] if found else text)


def listed(terms: Sequence[str]) -> str:
    """The terms as an English list: "a, b and c"."""
    return terms[0] if len(terms) == 1 else f"{', '.join(terms[:-1])} and {terms[-1]}"
