"""Textual gradients: the evidence determines their content, the language model words it.

A small model cannot compare prompts. It gets a few rows of the evidence table and words them. Its
citations are checked; if no wording is valid, a sentence composed from the rows is used.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from bigpe.agents.evidence.mixed_model import Z95, EvidenceRow, PairedComparison
from bigpe.agents.evidence.terms import contains_term, one_line, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.prompts.templates import template
from bigpe.services.core.errors import UnusableAnswerError
from bigpe.services.core.values import Instruction, Json, LlmUsage, Value, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn, few_shot

CANDIDATES = 2
TEMPERATURE = 0.4
MAX_TOKENS = 120
ADD_TERMS = 2
AVOID_WORDS = ("avoid", "drop", "without", "less", "remove", "leave out", "no", "not")
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


class WordedGradient(Value):
    """A gradient with the language model exchange that produced it."""

    inference: str
    improvement: str
    evidence: tuple[str, ...]
    composed: bool
    fault: AnswerFault | None = None
    """Why the last wording was not valid, if `composed`; None if none was requested."""
    dropped_citations: int = 0
    turns: tuple[Turn, ...] = ()
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    inference: str
    improvement: str
    evidence: list[str]


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
) -> WordedGradient:
    """The model's wording of the rows if it is valid, else the composed sentences.

    `pictures`: digests of the images of `best` and `worst`, for a model that accepts images.
    """
    composed = compose(rows)
    if not rows:
        return composed
    request = _request(rows, best, worst, professional, seed, pictures)
    raw, dropped, usage, fault = "", 0, LlmUsage(), AnswerFault.EMPTY
    keys: tuple[str, ...] = ()
    for index in range(CANDIDATES):
        request = request.model_copy(update={"seed": derive_seed(seed, "wording", index)})
        try:
            answer = await llm.ask(request)
        except UnusableAnswerError as error:
            raw, fault = error.raw, AnswerFault.EMPTY
            usage += error.usage
            continue
        raw = answer.text
        usage += answer.usage
        keys += (answer.effect_key,)
        worded = _parse(raw)
        fault = AnswerFault.SHAPE if worded is None else AnswerFault.INVALID
        if worded is None:
            continue
        cited = [row for row in rows if row.id in worded.evidence]
        valid = [row for row in cited if citation_holds(worded.improvement, row)]
        dropped += len(worded.evidence) - len(valid)
        if valid and not _contradicts(worded, rows):
            return WordedGradient(
                inference=worded.inference,
                improvement=worded.improvement,
                evidence=tuple(row.id for row in valid),
                composed=False,
                dropped_citations=dropped,
                turns=(*request.turns, Turn(role="assistant", text=raw)),
                usage=usage,
                effect_keys=keys,
            )
    turns = (*request.turns, Turn(role="assistant", text=raw))
    update = {"dropped_citations": dropped, "turns": turns, "usage": usage, "effect_keys": keys}
    return composed.model_copy(update={**update, "fault": fault})


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


def _parse(raw: str) -> _Answer | None:
    try:
        answer = _Answer.model_validate(json.loads(raw))
    except (ValueError, RecursionError):  # no JSON, JSON of another shape, or too deep or long
        return None
    update = {"inference": one_line(answer.inference), "improvement": one_line(answer.improvement)}
    return answer.model_copy(update=update)


def _request(
    rows: Sequence[EvidenceRow],
    best: PairedComparison | None,
    worst: PairedComparison | None,
    professional: PairedComparison | None,
    seed: int,
    pictures: Sequence[str],
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
        seed=seed,
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
        answer_schema=SCHEMA,
    )
