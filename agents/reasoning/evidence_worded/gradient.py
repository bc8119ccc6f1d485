"""Textual gradients: the evidence determines their content, the language model words it.

A small model cannot compare prompts. It gets a few rows of the evidence table and words them. Its
citations are checked; if no wording is valid, a sentence composed from the rows is used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict

from bigpe.agents.evidence.mixed_model import Z95, EvidenceRow, PairedComparison
from bigpe.agents.evidence.terms import contains_term, one_line, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.asking import Exchange, Fault, answer_in
from bigpe.agents.reasoning.interface import WordedGradient
from bigpe.agents.reasoning.rules import EMBEDDED_GRADIENTS, RoleRules
from bigpe.prompts.templates import template
from bigpe.services.core.values import Instruction, Json, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn, few_shot

ADD_TERMS = 2
AVOID_WORDS = ("avoid", "drop", "without", "less", "remove", "leave out", "no", "not")
_WANTED = "Answer with one JSON object of the fields improvement, inference and evidence."
_SHAPE = "it has no JSON object with the texts improvement and inference and the list evidence"
_INVALID = (
    "the improvement must name the listed terms that it cites, follow the sign of their effects, "
    "and be one short sentence"
)
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "improvement": {"type": "string", "maxLength": 200},
        "inference": {"type": "string", "maxLength": 300},
        "evidence": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 6},
    },
    "required": ["improvement", "inference", "evidence"],
    "additionalProperties": False,
}


def _listed(value: Any) -> Any:
    """Ids that a model gave as one text, or as numbers."""
    if isinstance(value, str):
        return re.findall(r"\w+", value)
    return [str(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    inference: str
    improvement: str
    evidence: Annotated[list[str], BeforeValidator(_listed)]


def sample_evidence(
    rows: Sequence[EvidenceRow], instruction: Instruction, *, count: int, seed: int
) -> list[tuple[EvidenceRow, ...]]:
    """`count` sets of rows, one per gradient: up to two terms to add and one to avoid.

    Terms are drawn by Thompson sampling from their posteriors, so uncertain terms are tried, too.
    Terms that the instruction already has are left out.
    """
    present = " ".join([instruction.text, *(e.rewrite for e in instruction.exemplars)])
    terms = [row for row in rows if row.kind == "term"]
    focuses: list[tuple[EvidenceRow, ...]] = []
    for index in range(count):
        rng = random.Random(derive_seed(seed, "focus", index))
        drawn = {row.id: rng.gauss(row.effect, (row.hi - row.lo) / (2 * Z95)) for row in terms}
        ranked = sorted(terms, key=lambda row: -drawn[row.id])
        new = [
            r for r in ranked if r.effect > 0 < drawn[r.id] and not contains_term(present, r.term)
        ]
        add = _without_shared_words(new)[:ADD_TERMS]
        bad = [r for r in reversed(ranked) if r.effect < 0 > drawn[r.id]]
        avoid = [r for r in bad if not any(contains_term(a.term, r.term) for a in add)][:1]
        focuses.append((*add, *avoid))
    return focuses


def _without_shared_words(rows: Sequence[EvidenceRow]) -> list[EvidenceRow]:
    """The rows without words of earlier rows: "golden" adds little to "golden hour"."""
    kept: list[EvidenceRow] = []
    for row in rows:
        if not any(set(words(row.term)) & set(words(other.term)) for other in kept):
            kept.append(row)
    return kept


def compose(rows: Sequence[EvidenceRow]) -> WordedGradient:
    """The gradient in fixed sentences, without a language model."""
    add = [row for row in rows if row.effect > 0]
    avoid = [row for row in rows if row.effect <= 0]
    if not rows:
        return WordedGradient(
            inference="No term has shown an effect yet.",
            improvement="Try a term of the professional prompts.",
            evidence=(),
            composed=True,
        )
    found = [f"{_worded(row)} {100 * row.effect:+.2f} (n={row.n})" for row in rows]
    changes = [f"add {' and '.join(row.term for row in add)}"] if add else []
    changes += [f"avoid {' and '.join(row.term for row in avoid)}"] if avoid else []
    return WordedGradient(
        inference=f"Measured on gain (score x 100): {'; '.join(found)}.",
        improvement=f"{' and '.join(changes)}.".capitalize(),
        evidence=tuple(row.id for row in rows),
        composed=True,
    )


def _worded(row: EvidenceRow) -> str:
    sure = row.lo > 0 or row.hi < 0
    return f'"{row.term}"' if sure and not row.confounded else f'perhaps "{row.term}"'


async def word_gradient(
    llm: LlmClient,
    rows: Sequence[EvidenceRow],
    best: PairedComparison | None,
    worst: PairedComparison | None,
    professional: PairedComparison | None,
    seed: int,
    pictures: Sequence[str] = (),
    rules: RoleRules = EMBEDDED_GRADIENTS,
) -> WordedGradient:
    """The model's wording of the rows if it is valid, else the composed sentences.

    `pictures`: digests of the images of `best` and `worst`, for a model that accepts images.
    """
    composed = compose(rows)
    if not rows:
        return composed
    exchange = Exchange(llm, rules)
    common = _request(rows, best, worst, professional, pictures, rules)
    dropped = 0

    def request(index: int) -> LlmRequest:
        return common.model_copy(update={"seed": derive_seed(seed, "wording", index)})

    def judge(raw: str) -> WordedGradient | Fault:
        nonlocal dropped
        worded = _parse(raw, rules)
        if worded is None:
            return Fault(AnswerFault.SHAPE, _SHAPE)
        cited = [row for row in rows if row.id in worded.evidence]
        valid = [row for row in cited if citation_holds(worded.improvement, row)]
        dropped += len(worded.evidence) - len(valid)
        if not valid or _contradicts(worded, rows):
            return Fault(AnswerFault.INVALID, _INVALID)
        return WordedGradient(
            inference=worded.inference,
            improvement=worded.improvement,
            evidence=tuple(row.id for row in valid),
            composed=False,
        )

    done = await exchange.obtain(request, judge, _WANTED)
    update = {"dropped_citations": dropped, **exchange.fields()}
    if isinstance(done, Fault):
        return composed.model_copy(update={**update, "fault": done.code})
    return done.model_copy(update=update)


def citation_holds(improvement: str, row: EvidenceRow) -> bool:
    """Whether the improvement names the row's term and agrees with the sign of its effect."""
    if not contains_term(improvement, row.term):
        return False
    return _avoided(improvement, row.term) == (row.effect <= 0)


def _avoided(text: str, term: str) -> bool:
    """Whether `text` asks to avoid `term`: an avoiding word follows the last adding word."""
    whole = rf"(?<!\S){re.escape(' '.join(words(term)))}(?!\S)"
    before = re.split(whole, " ".join(words(text)), maxsplit=1)[0]
    pattern = rf"\b({'|'.join(AVOID_WORDS)})\b(?!.*\b(add|use|include|keep|more)\b)"
    return re.search(pattern, before) is not None


def _contradicts(worded: _Answer, rows: Sequence[EvidenceRow]) -> bool:
    """Whether the wording contradicts a row or is far longer than its terms."""
    text = worded.improvement
    named = [row for row in rows if contains_term(text, row.term)]
    if any(not citation_holds(text, row) for row in named):
        return True
    allowed = 8 + sum(len(words(row.term)) + 3 for row in rows)
    if len(words(text)) > allowed or re.search(r"\b(better|worse)\b", text):
        return True
    for clause, verdict in re.findall(r"(.*?)\b(better|worse)\b", worded.inference):
        named = [row for row in rows if contains_term(clause, row.term)]
        if any((row.effect > 0) != (verdict == "better") for row in named):
            return True
    return False


def _parse(raw: str, rules: RoleRules) -> _Answer | None:
    answer = answer_in(raw, _Answer, rules)
    if answer is None:
        return None
    update = {"inference": one_line(answer.inference), "improvement": one_line(answer.improvement)}
    return answer.model_copy(update=update)


def _request(
    rows: Sequence[EvidenceRow],
    best: PairedComparison | None,
    worst: PairedComparison | None,
    professional: PairedComparison | None,
    pictures: Sequence[str],
    rules: RoleRules,
) -> LlmRequest:
    text = template("gradient")
    turns = few_shot(text.system, text.examples)
    sides = (("best", best), ("worst", worst), ("professional", professional))
    lines = [f"{side}: {one_line(pair.rewrite)[:240]}" for side, pair in sides if pair is not None]
    lines += [f'{row.id} "{row.term}": {100 * row.effect:+.2f}' for row in rows]
    # Repeated in words: a small model does not compare numbers and follows the last lines.
    for side, wanted in (("better", True), ("worse", False)):
        named = [row.term for row in rows if (row.effect > 0) == wanted]
        lines += [f"{side}: {' and '.join(named)}"] if named else []
    if pictures:
        order = "the best one first, then the worst" if len(pictures) > 1 else "the best one"
        lines.append(f"pictures: {order}")
    turns.append(Turn(role="user", text="\n".join(lines), images=tuple(pictures)))
    return LlmRequest(
        turns=tuple(turns),
        seed=0,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        answer_schema=SCHEMA,
    )
