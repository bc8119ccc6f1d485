"""Validity of gradients: compared with true effects, or rated by people in a worksheet.

In the embedded world the true effects are available, so evidence rows and cited terms can be
checked. Otherwise two people rate the claims in a worksheet, and their agreement is reported.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from bigpe.agents.evidence.mixed_model import EvidenceRow
from bigpe.agents.evidence.terms import contains_term, term_text, words
from bigpe.agents.messages.core import AnyMessage, CritiqueRequested, Gradient, GradientsComputed
from bigpe.agents.statistics.agreement import cohen_kappa, rank_correlation
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import ConfigError

NO_EFFECT = 0.1
"""True effects up to this size (in the truth's units) count as no effect."""
VERDICTS = ("true", "false", "unclear")
WORKSHEET = (
    "id",
    "run",
    "round",
    "inference",
    "improvement",
    "cited",
    "best_rewrite",
    "worst_rewrite",
    "verdict",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Claim(NamedTuple):
    """A gradient with the evidence rows and comparisons that it is about."""

    run: str
    round: int
    gradient: Gradient
    rows: tuple[EvidenceRow, ...]
    """The cited rows."""
    best: str
    worst: str


def read_truth(path: Path) -> dict[str, float]:
    """Term -> true effect, from the "terms" of a JSON file. ConfigError if it has none."""
    try:
        raw = json.loads(path.read_text("utf-8-sig"))["terms"]
        found = {str(term): float(effect) for term, effect in raw.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a table of known effects: {error}; it must be a JSON object "
            'like {"terms": {"golden hour": 0.6}}'
        ) from error
    if not all(math.isfinite(effect) for effect in found.values()):
        raise ConfigError(f"{path}: effects must be finite numbers")
    return found


def true_effect(term: str, truth: Mapping[str, float]) -> float | None:
    """The effect of adding `term`: the sum over the phrases of the truth in it, or 0 without any.

    Of nested phrases ("golden hour light" contains "golden hour") the longest counts. None if the
    term is only a part of a phrase ("hour"), as its effect is then unclear.
    """
    inside = [phrase for phrase in truth if contains_term(term, phrase)]
    longest = [
        phrase
        for phrase in inside
        if not any(phrase != other and contains_term(other, phrase) for other in inside)
    ]
    if longest:
        return sum(truth[phrase] for phrase in longest)
    vocabulary = {word for phrase in truth for word in words(phrase)}
    return None if vocabulary & set(words(term)) else 0.0


def row_validity(
    rows: Iterable[EvidenceRow], truth: Mapping[str, float]
) -> dict[str, float | None]:
    """Validity of an evidence table.

    "precision": the share with the right sign among rows whose interval excludes 0; a row about a
    term without effect is wrong. "rank correlation": Spearman's, of estimated and true effects.
    """
    judged = [
        (row, effect)
        for row in rows
        if row.kind == "term" and (effect := true_effect(row.term, truth)) is not None
    ]
    claimed = [(row, effect) for row, effect in judged if row.lo > 0 or row.hi < 0]
    return {
        "evidence rows judged": float(len(judged)),
        "evidence rows claimed": float(len(claimed)),
        "evidence precision": _share([_agrees(row.effect, effect) for row, effect in claimed]),
        "evidence rank correlation": rank_correlation(
            [(row.effect, effect) for row, effect in judged]
        ),
    }


def claim_validity(claims: Iterable[Claim], truth: Mapping[str, float]) -> dict[str, float | None]:
    """Validity of the improvements: the shares of cited and of named terms with the right sign.

    A named term is a word or phrase that an improvement in free form asks for (+) or against (-),
    as the model lists them. A cited term is that of a cited evidence row; its sign is that of the
    same named term, if there is one, and that of the row's estimate otherwise. The named figures
    are left out if no claim names a term.
    """
    claims = list(claims)
    terms = judged_terms(claims, truth)
    cited = [
        (row.effect, effect)
        for claim in claims
        for row in claim.rows
        if row.kind == "term" and (effect := true_effect(row.term, truth)) is not None
    ]
    found = {
        "citations judged": float(len(cited)),
        "citation precision": _precision(terms, "cited"),
        "citation rank correlation": rank_correlation(cited),
    }
    if any(term.kind == "named" for term in terms):
        judged = [term for term in terms if term.kind == "named" and term.right is not None]
        found["named terms judged"] = float(len(judged))
        found["named term precision"] = _precision(terms, "named")
    return found


class JudgedTerm(NamedTuple):
    """A term that a gradient cites or names, and what is known of it."""

    run: str
    round: int
    kind: Literal["cited", "named"]
    term: str
    sign: float
    """The claimed effect of the term: +1 and -1 of a named term, or an estimate."""
    effect: float | None
    """The known effect; None if it is not clear."""
    right: bool | None
    """Whether the signs agree; None if there is nothing to judge by."""


def judged_terms(claims: Iterable[Claim], truth: Mapping[str, float]) -> list[JudgedTerm]:
    """Each term that the claims cite or name, in order."""
    found: list[JudgedTerm] = []
    for claim in claims:
        named = [(term, 1.0) for term in claim.gradient.adds]
        named += [(term, -1.0) for term in claim.gradient.avoids]
        asked_for = dict(named)
        given: list[tuple[Literal["cited", "named"], str, float]] = []
        for row in claim.rows:
            if row.kind == "term":
                sign = asked_for.get(term_text(words(row.term)), row.effect)
                given.append(("cited", row.term, sign))
        given.extend(("named", term, sign) for term, sign in named)
        for kind, term, sign in given:
            effect = true_effect(term, truth)
            right = None if effect is None else _agrees(sign, effect)
            found.append(JudgedTerm(claim.run, claim.round, kind, term, sign, effect, right))
    return found


def _precision(terms: Sequence[JudgedTerm], kind: str) -> float | None:
    return _share([term.right for term in terms if term.kind == kind and term.right is not None])


def _agrees(estimate: float, effect: float) -> bool:
    return abs(effect) > NO_EFFECT and (estimate > 0) == (effect > 0)


def _share(verdicts: Sequence[bool]) -> float | None:
    return sum(verdicts) / len(verdicts) if verdicts else None


def claims_of(messages: Iterable[AnyMessage]) -> list[Claim]:
    """All gradients of a run, in order of rounds."""
    requests: dict[int, CritiqueRequested] = {}
    answers: dict[int, GradientsComputed] = {}
    for message in messages:
        if isinstance(message, CritiqueRequested):
            requests[message.round] = message
        elif isinstance(message, GradientsComputed):
            answers[message.round] = message
    return [
        Claim(
            run=answer.run,
            round=index,
            gradient=gradient,
            rows=tuple(row for row in requests[index].rows if row.id in gradient.evidence),
            best=pair.rewrite if (pair := requests[index].best) else "",
            worst=pair.rewrite if (pair := requests[index].worst) else "",
        )
        for index, answer in sorted(answers.items())
        if index in requests
        for gradient in answer.gradients
    ]


# -- ratings by people ----------------------------------------------------------------------------


def write_worksheet(path: Path, claims: Sequence[Claim]) -> None:
    """Write a CSV with one line per gradient and an empty column for the verdict.

    Texts of models are escaped, because spreadsheets execute texts that begin with "=".
    """
    with partial_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(WORKSHEET)
        for number, claim in enumerate(claims, start=1):
            cited = "; ".join(f"{row.term} {100 * row.effect:+.2f}" for row in claim.rows)
            gradient = claim.gradient
            texts = (gradient.inference, gradient.improvement, cited, claim.best, claim.worst)
            writer.writerow([f"C{number}", claim.run, claim.round, *map(_plain, texts), ""])


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def read_verdicts(path: Path) -> dict[str, str]:
    """Claim id -> verdict of a filled worksheet; claims without a verdict are left out.

    ConfigError names the line of a verdict that is none of `VERDICTS`.
    """
    found: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                verdict = (row.get("verdict") or "").strip().casefold()
                if verdict and verdict not in VERDICTS:
                    raise ConfigError(
                        f"{path}, line {number}: verdict {verdict!r}; "
                        f"write one of {', '.join(VERDICTS)}"
                    )
                if verdict:
                    found[row.get("id") or ""] = verdict
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return found


class Agreement(NamedTuple):
    """Agreement of two raters."""

    n: int
    """Claims with a verdict of both."""
    observed: float | None
    """Share with the same verdict."""
    kappa: float | None
    """Cohen's kappa; None if both gave the same verdict to all claims."""


def agreement(first: Mapping[str, str], second: Mapping[str, str]) -> Agreement:
    """The agreement on claims with a verdict of both raters."""
    both = [(first[claim], second[claim]) for claim in sorted(first.keys() & second.keys())]
    if not both:
        return Agreement(0, None, None)
    return Agreement(len(both), sum(a == b for a, b in both) / len(both), cohen_kappa(both))
