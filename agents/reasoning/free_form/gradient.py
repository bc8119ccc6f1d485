"""Textual gradients of a model that reasons: it sees the whole batch and what was tried before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bigpe.agents.evidence.contrasts import TermTally
from bigpe.agents.evidence.mixed_model import EvidenceRow
from bigpe.agents.evidence.terms import contains_term, one_line, term_text, units, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import CritiqueRequested
from bigpe.agents.messages.search import BatchStudy
from bigpe.agents.reasoning.answers.objects import find_object
from bigpe.agents.reasoning.asking import Exchange, Fault
from bigpe.agents.reasoning.evidence_worded.gradient import compose
from bigpe.agents.reasoning.free_form import tables
from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import WordedGradient
from bigpe.agents.reasoning.rules import RoleRules
from bigpe.services.core.values import Json, derive_seed
from bigpe.services.llm.service import LlmClient, LlmRequest, Turn

HINTS = 8
"""Rows of the evidence table in a request."""
IMPROVEMENTS = 3
"""Maximum number of changes in an answer."""
TERMS = 12
"""Maximum number of words and phrases that a gradient adds, and that it avoids."""
COMPOSED = 2
"""Rows of a composed gradient."""
_NO_OBJECT = "it held no JSON object of that form"
_WANTED = "Answer with the JSON object that the task describes, and nothing else."
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "inference": {"type": "string"},
        "improvements": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "change": {"type": "string"},
                    "reason": {"type": "string"},
                    "add": {"type": "array", "items": {"type": "string"}},
                    "avoid": {"type": "array", "items": {"type": "string"}},
                    "rows": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["change", "reason", "add", "avoid", "rows"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["inference", "improvements"],
    "additionalProperties": False,
}


def _as_list(given: Any) -> list[Any]:
    """A list, also of one item alone or of none."""
    if given is None or given == "":
        return []
    return cast(list[Any], given if isinstance(given, list) else [given])


def _as_changes(given: Any) -> list[Any]:
    """Improvements in other shapes: one alone, or plain sentences."""
    return [{"change": item} if isinstance(item, str) else item for item in _as_list(given)]


Strings = Annotated[list[str], BeforeValidator(_as_list)]


class Improvement(BaseModel):
    """One change that the model asks for."""

    model_config = ConfigDict(extra="ignore")

    change: str = Field(min_length=1)
    reason: str = ""
    add: Strings = Field(default_factory=list[str])
    """Words that rewrites shall have."""
    avoid: Strings = Field(default_factory=list[str])
    """Words that rewrites shall not have."""
    rows: Strings = Field(default_factory=list[str])

    @property
    def text(self) -> str:
        """The sentences of the change."""
        return f"{self.change} {self.reason}"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    inference: str = Field(min_length=1)
    improvements: Annotated[list[Improvement], BeforeValidator(_as_changes), Field(min_length=1)]


async def write_gradients(
    llm: LlmClient,
    request: CritiqueRequested,
    rules: RoleRules,
    settings: FreeFormSettings,
    *,
    sees: bool,
) -> list[WordedGradient]:
    """The gradients of a batch, at most `request.improvements`; one exchange for all of them.

    With one gradient, it holds all changes of the answer. Without a usable answer, the gradient is
    composed from the hints. `sees`: whether the model gets the images of the widest contrast.

    Raises:
        ValueError: The request holds no study (`CampaignPlan.studies` is false).
    """
    if request.study is None:
        raise ValueError("a gradient in free form needs the study of its batch")
    hinted = hint_rows(request.rows, request.study)
    images = _images(request.study) if sees else ()
    text = tables.fit(lambda limit: _text(request, hinted, limit), settings.request_tokens)
    exchange = Exchange(llm, rules)

    def request_at(index: int) -> LlmRequest:
        return _request(text, images, derive_seed(request.seed, index), rules, settings)

    def judge(raw: str) -> _Answer | Fault:
        return find_object(raw, _Answer) or Fault(AnswerFault.SHAPE, _NO_OBJECT)

    done = await exchange.obtain(request_at, judge, _WANTED)
    if isinstance(done, Fault):
        composed = compose(hinted[:COMPOSED])
        return [composed.model_copy(update={"fault": done.code, **exchange.fields()})]
    return _gradients(done, hinted, request.improvements, exchange)


def hint_rows(rows: Sequence[EvidenceRow], study: BatchStudy) -> tuple[EvidenceRow, ...]:
    """The rows that a request lists, surest first.

    They are terms without a word of a naive prompt of the batch. A single word counts if it is a
    whole clause of a rewrite: "lens" in "85mm lens" is a fragment. Rows whose term was compared
    within prompts come first, by size and number of prompts; of two terms of which one contains
    the other and that have one tally, the first stands for both.
    """
    naive = {unit for gain in study.batch for unit in units(gain.naive)}
    clauses = _clauses(study)
    usable = [
        row
        for row in rows
        if row.kind == "term"
        and naive.isdisjoint(units(row.term))
        and (len(words(row.term)) > 1 or " ".join(words(row.term)) in clauses)
    ]
    tallies = {tally.term: tally for tally in study.tallies}
    usable.sort(key=lambda row: -_weight(tallies.get(row.term)))  # stable: surest first
    found: list[EvidenceRow] = []
    for row in usable:
        if len(found) < HINTS and not any(_same(row, other, tallies) for other in found):
            found.append(row)
    return tuple(found)


def _clauses(study: BatchStudy) -> set[str]:
    pairs = [pair for item in study.contrasts for pair in (item.best, *item.between, item.worst)]
    texts = [pair.rewrite for pair in (*study.batch, *pairs)]
    return {" ".join(words(part)) for text in texts for part in re.split(r"[,;.]", text)}


def _weight(tally: TermTally | None) -> float:
    return abs(tally.mean) * (tally.prompts - 1) ** 0.5 if tally else 0.0  # one may be chance


def _same(row: EvidenceRow, other: EvidenceRow, tallies: Mapping[str, TermTally]) -> bool:
    """Whether two rows have nested terms and nothing tells them apart."""
    nested = contains_term(row.term, other.term) or contains_term(other.term, row.term)
    mine, theirs = tallies.get(row.term), tallies.get(other.term)
    if not nested or mine is None or theirs is None:
        return False
    return (mine.prompts, mine.mean) == (theirs.prompts, theirs.mean)


def _request(
    text: str,
    images: tuple[str, ...],
    seed: int,
    rules: RoleRules,
    settings: FreeFormSettings,
) -> LlmRequest:
    system = settings.templates.of("gradient").system_with(
        scorer=settings.scorer, painter=settings.painter
    )
    return LlmRequest(
        turns=(
            Turn(role="system", text=system),
            Turn(role="user", text=text, images=images),
        ),
        seed=seed,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        answer_schema=SCHEMA,
    )


def _text(request: CritiqueRequested, hinted: Sequence[EvidenceRow], limit: int) -> str:
    study = request.study
    assert study is not None
    search = study.search
    noise = f"One gain has a noise of about {100 * search.sigma:.1f} (standard deviation)."
    stale = (
        " Before this batch, the best result had not improved for "
        f"{tables.counted(search.stale, 'round')}."
        if search.stale
        else ""
    )
    own = request.instruction.id
    contrasts = "\n".join(tables.contrast(item, own, limit) for item in study.contrasts)
    tallies = {tally.term: tally for tally in study.tallies}
    professionals = "\n".join(tables.professional(item, limit) for item in study.professionals)
    return tables.sections(
        (
            (
                "The instruction",
                f"{tables.quoted(request.instruction.text)}\n"
                f"Its record before this batch: {tables.record(search.own)}.\n"
                f"Gains are score x 100. {noise}{stale}",
            ),
            ("Examples that come with it", tables.exemplars(request.instruction, limit)),
            ("This batch", tables.batch(study.batch, limit)),
            ("Rewrites of one short prompt with their gains, by any instruction", contrasts),
            ("Professional prompts of the same subjects", professionals),
            (
                "Hints: effects of single terms, over all rounds (differences within one short "
                "prompt are raw: other words of the rewrites differ, too)",
                tables.hints(hinted, tallies),
            ),
            ("Changes that were tried", tables.tried(search.tried, own, limit)),
        )
    )


def _images(study: BatchStudy) -> tuple[str, ...]:
    """The images of the widest contrast, the better one first."""
    if not study.contrasts:
        return ()
    widest = study.contrasts[0]
    return tuple(image for image in (widest.best.image, widest.worst.image) if image)


def _gradients(
    answer: _Answer, hinted: Sequence[EvidenceRow], count: int, exchange: Exchange
) -> list[WordedGradient]:
    by_id = {row.id: row for row in hinted}
    changes = answer.improvements[:IMPROVEMENTS]
    groups = [changes] if count == 1 else [[change] for change in changes[:count]]
    gradients: list[WordedGradient] = []
    for index, group in enumerate(groups):
        given = [id for change in group for id in change.rows]
        cited = [
            id
            for change in group
            for id in change.rows
            if id in by_id and contains_term(change.text, by_id[id].term)
        ]
        gradients.append(
            WordedGradient(
                inference=one_line(answer.inference),
                improvement=_numbered(group),
                evidence=tuple(dict.fromkeys(cited)),
                composed=False,
                dropped_citations=len(given) - len(cited),
                adds=_named((change, change.add) for change in group),
                avoids=_named((change, change.avoid) for change in group),
                **(exchange.fields() if index == 0 else {}),
            )
        )
    return gradients


def _named(given: Iterable[tuple[Improvement, list[str]]]) -> tuple[str, ...]:
    """The words that the text of their change names; others say more than the change."""
    terms = (term_text(words(term)) for change, listed in given for term in listed
             if contains_term(change.text, term))  # fmt: skip
    return tuple(dict.fromkeys(terms))[:TERMS]


def _numbered(group: Sequence[Improvement]) -> str:
    texts = [
        one_line(
            f"{item.change.rstrip('. ')} ({item.reason.rstrip('. ')})"
            if item.reason
            else item.change
        )
        for item in group
    ]
    texts = [re.sub(r"^\(?\d+[.)]\s*", "", text) for text in texts]
    if len(texts) == 1:
        return texts[0]
    return " ".join(f"({index}) {text}." for index, text in enumerate(texts, start=1))
