"""Is what the gradients say true? Against known effects, or against people's judgement.

In a world whose taste is known, every row of evidence and every cited term can be checked. Where
nothing is known, the same claims go into a worksheet for two people, and their agreement is
reported with them.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bigpe.agents.evidence.mixed_model import EvidenceRow
from bigpe.agents.evidence.terms import contains_term, words
from bigpe.agents.messages.core import AnyMessage, CritiqueRequested, Gradient, GradientsComputed
from bigpe.agents.statistics.agreement import cohen_kappa, rank_correlation
from bigpe.services.core.errors import ConfigError, StoreError

NO_EFFECT = 0.1
"""Known effects up to this size (in the truth's units) count as none: a claim of one is false."""
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
    """A gradient, and the rows and comparisons it was written about."""

    run: str
    round: int
    gradient: Gradient
    rows: tuple[EvidenceRow, ...]
    """Those that it cites."""
    best: str
    worst: str


def read_truth(path: Path) -> dict[str, float]:
    """Term -> known effect, from a JSON object's "terms"; ConfigError when it is not one."""
    try:
        raw = json.loads(path.read_text("utf-8"))["terms"]
        found = {str(term): float(effect) for term, effect in raw.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no table of known effects: {error}; it must be a JSON object "
            'like {"terms": {"golden hour": 0.6}}'
        ) from error
    if not all(math.isfinite(effect) for effect in found.values()):
        raise ConfigError(f"{path}: effects must be finite numbers")
    return found


def known_effect(term: str, truth: Mapping[str, float]) -> float | None:
    """The effect of adding `term`: that of the known phrases in it, 0 if it shares no word.

    Of nested phrases ("golden hour light" holds "golden hour") the longest counts. None where a
    term is only a part of a known phrase ("hour"): what it stands for cannot be told.
    """
    inside = [phrase for phrase in truth if contains_term(term, phrase)]
    longest = [
        phrase
        for phrase in inside
        if not any(phrase != other and contains_term(other, phrase) for other in inside)
    ]
    if longest:
        return sum(truth[phrase] for phrase in longest)
    known = {word for phrase in truth for word in words(phrase)}
    return None if known & set(words(term)) else 0.0


def row_validity(
    rows: Iterable[EvidenceRow], truth: Mapping[str, float]
) -> dict[str, float | None]:
    """How true an evidence table is.

    "precision": of the rows whose interval excludes 0, the share whose sign is right (a row about a
    term without effect is wrong). "rank correlation": Spearman's, of estimated and known effects.
    """
    judged = [
        (row, effect)
        for row in rows
        if row.kind == "term" and (effect := known_effect(row.term, truth)) is not None
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
    """How true the improvements are: of the terms that they cite, the share with the right sign."""
    cited = [
        (row.effect, effect)
        for claim in claims
        for row in claim.rows
        if row.kind == "term" and (effect := known_effect(row.term, truth)) is not None
    ]
    return {
        "citations judged": float(len(cited)),
        "citation precision": _share([_agrees(told, effect) for told, effect in cited]),
        "citation rank correlation": rank_correlation(cited),
    }


def _agrees(told: float, effect: float) -> bool:
    return abs(effect) > NO_EFFECT and (told > 0) == (effect > 0)


def _share(verdicts: Sequence[bool]) -> float | None:
    return sum(verdicts) / len(verdicts) if verdicts else None


def claims_of(messages: Iterable[AnyMessage]) -> list[Claim]:
    """Every gradient of a run, in order of rounds."""
    asked: dict[int, CritiqueRequested] = {}
    answered: dict[int, GradientsComputed] = {}
    for message in messages:
        if isinstance(message, CritiqueRequested):
            asked[message.round] = message
        elif isinstance(message, GradientsComputed):
            answered[message.round] = message
    return [
        Claim(
            run=answer.run,
            round=index,
            gradient=gradient,
            rows=tuple(row for row in asked[index].rows if row.id in gradient.evidence),
            best=pair.rewrite if (pair := asked[index].best) else "",
            worst=pair.rewrite if (pair := asked[index].worst) else "",
        )
        for index, answer in sorted(answered.items())
        if index in asked
        for gradient in answer.gradients
    ]


# -- people's judgement ---------------------------------------------------------------------------


def write_worksheet(path: Path, claims: Sequence[Claim]) -> None:
    """A CSV with a line a gradient and an empty column for the verdict: true, false or unclear.

    What models wrote is made safe for spreadsheets, which take a leading "=" for a formula.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(WORKSHEET)
            for number, claim in enumerate(claims, start=1):
                cited = "; ".join(f"{row.term} {100 * row.effect:+.2f}" for row in claim.rows)
                told = (claim.gradient.inference, claim.gradient.improvement, cited)
                texts = [_plain(text) for text in (*told, claim.best, claim.worst)]
                writer.writerow([f"C{number}", claim.run, claim.round, *texts, ""])
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


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
    """How far two raters agree."""

    n: int
    """Claims that both judged."""
    observed: float | None
    """Share with the same verdict."""
    kappa: float | None
    """Cohen's kappa; None where it is not defined: both always gave the same one verdict."""


def agreement(one: Mapping[str, str], other: Mapping[str, str]) -> Agreement:
    """Of the claims that both judged; see `agents.agreement.cohen_kappa`."""
    both = [(one[claim], other[claim]) for claim in sorted(one.keys() & other.keys())]
    if not both:
        return Agreement(0, None, None)
    return Agreement(len(both), sum(a == b for a, b in both) / len(both), cohen_kappa(both))
