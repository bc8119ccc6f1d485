"""What made the difference: effects of terms on gain, estimated from all comparisons of a run.

A batch of five proves nothing, so the table is a fit over every finished pair. Henderson's
mixed-model equations: the naive prompt as a (weakly ridged) fixed effect, the arm and each term as
random effects. Shrinkage keeps a term that was seen twice from looking like a discovery.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigpe.agents.terms import subject_kept, terms_of, words
from bigpe.services.values import Value

Kind = Literal["term", "length", "truncation", "dropped_subject"]
Floats = NDArray[np.float64]

MAX_TERMS = 150
PROMPT_RATIO = 0.1
"""Ridge on prompt effects: weak, so that they act as fixed ones."""
TERM_RATIOS = (1.0, 3.0, 10.0, 30.0, 100.0)
ARM_RATIOS = (1.0, 10.0, 100.0)
"""Noise variance over effect variance; the likeliest pair of the grid is used."""
Z95 = 1.959964
LENGTH_UNIT = 10


class Pair(Value):
    """One paired comparison."""

    naive: str
    rewrite: str
    seed: int
    gain: float
    """Score of the rewrite's picture less the naive one's, score units."""
    arm: str
    """The instruction's id, or "professional"."""
    fallback: bool = False
    truncated: int = 0
    """Tokens of the rewrite that the renderer cut off."""


class EvidenceRow(Value):
    """One estimated effect on the gain."""

    id: str
    """"E1", "E2", ... from the most to the least certain."""
    kind: Kind
    term: str
    effect: float
    """Change of gain when the term is there (for length: per 10 words), score units."""
    lo: float
    hi: float
    """95% posterior interval."""
    n: int
    """Pairs that have the term."""
    arms: int
    """Arms it was seen under; professional prompts count as one."""
    confounded: bool
    """Seen under one arm only: it may be that arm's doing."""


class _Column(NamedTuple):
    kind: Kind
    term: str
    values: Floats
    n: int
    arms: int


class _Fit(NamedTuple):
    likelihood: float
    effects: Floats
    deviations: Floats


def tabulate(
    pairs: Sequence[Pair], *, max_rows: int = 12, min_count: int = 2
) -> tuple[EvidenceRow, ...]:
    """The effects that the pairs tell most about, at most `max_rows`, most certain first.

    Pairs that fell back to the naive prompt compare nothing and are left out. The order of the
    pairs does not matter. Empty with fewer than two pairs.
    """
    usable = sorted(
        (pair for pair in pairs if not pair.fallback),
        key=lambda p: (p.naive, p.arm, p.seed, p.rewrite, p.gain),
    )
    columns = _columns(usable, min_count) if len(usable) > 1 else []
    if not columns:
        return ()
    fit = _best_fit(usable, columns)
    start = len(fit.effects) - len(columns)
    order = sorted(
        range(len(columns)),
        key=lambda j: (
            -abs(fit.effects[start + j]) / fit.deviations[start + j],
            columns[j].term,
        ),
    )
    return tuple(
        _row(rank, columns[j], float(fit.effects[start + j]), float(fit.deviations[start + j]))
        for rank, j in enumerate(order[:max_rows], start=1)
    )


def _row(rank: int, column: _Column, effect: float, deviation: float) -> EvidenceRow:
    return EvidenceRow(
        id=f"E{rank}",
        kind=column.kind,
        term=column.term,
        effect=effect,
        lo=effect - Z95 * deviation,
        hi=effect + Z95 * deviation,
        n=column.n,
        arms=column.arms,
        confounded=column.arms == 1,
    )


def _columns(pairs: Sequence[Pair], min_count: int) -> list[_Column]:
    present: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        for term in terms_of(pair.naive, pair.rewrite):
            present[term].append(index)
    merged: dict[tuple[int, ...], str] = {}
    for term, where in present.items():
        if min_count <= len(where) < len(pairs):
            key = tuple(where)
            # Terms that always stand together cannot be told apart: the longest speaks for all.
            merged[key] = max(merged.get(key, ""), term, key=lambda t: (len(t), t))
    chosen = sorted(merged.items(), key=lambda item: (-len(item[0]), item[1]))[:MAX_TERMS]
    columns = [_indicator("term", term, where, pairs) for where, term in chosen]
    return columns + _form_columns(pairs)


def _indicator(kind: Kind, term: str, where: Sequence[int], pairs: Sequence[Pair]) -> _Column:
    values = np.zeros(len(pairs))
    values[list(where)] = 1.0
    return _Column(kind, term, values, len(where), len({pairs[i].arm for i in where}))


def _form_columns(pairs: Sequence[Pair]) -> list[_Column]:
    """Length, truncation and a dropped subject, where they vary."""
    columns: list[_Column] = []
    lengths = np.array([len(words(pair.rewrite)) / LENGTH_UNIT for pair in pairs])
    if float(np.ptp(lengths)) > 0.1:
        arms = len({pair.arm for pair in pairs})
        centred = lengths - lengths.mean()
        columns.append(_Column("length", "length", centred, len(pairs), arms))
    cut = [i for i, pair in enumerate(pairs) if pair.truncated > 0]
    dropped = [i for i, p in enumerate(pairs) if not subject_kept(p.naive, p.rewrite)]
    if 1 < len(cut) < len(pairs):
        columns.append(_indicator("truncation", "truncation", cut, pairs))
    if 1 < len(dropped) < len(pairs):
        columns.append(_indicator("dropped_subject", "dropped subject", dropped, pairs))
    return columns


def _dummies(labels: Sequence[str]) -> Floats:
    names = sorted(set(labels))
    table = np.zeros((len(labels), len(names)))
    for row, label in enumerate(labels):
        table[row, names.index(label)] = 1.0
    return table


def _best_fit(pairs: Sequence[Pair], columns: Sequence[_Column]) -> _Fit:
    gains = np.array([pair.gain for pair in pairs])
    prompts = _dummies([pair.naive for pair in pairs])
    arms = _dummies([pair.arm for pair in pairs])
    terms = np.stack([column.values for column in columns], axis=1)
    design = np.hstack([prompts, arms, terms])
    cross, moments = design.T @ design, design.T @ gains
    sizes = (prompts.shape[1], arms.shape[1], terms.shape[1])
    fits = [
        _fit(gains, cross, moments, np.repeat([PROMPT_RATIO, arm, term], sizes))
        for arm in ARM_RATIOS
        for term in TERM_RATIOS
    ]
    return max(fits, key=lambda fit: fit.likelihood)


def _fit(gains: Floats, cross: Floats, moments: Floats, ratios: Floats) -> _Fit:
    """Henderson's equations (Z'Z + L) u = Z'y, and the profiled marginal likelihood.

    With V = I + Z L^-1 Z': log|V| = log|Z'Z + L| - log|L|, y'V^-1 y = y'y - y'Z u
    (Searle, Casella & McCulloch, Variance Components, section 7.6).
    """
    n = len(gains)
    system = cross + np.diag(ratios)
    lower = np.linalg.cholesky(system)
    inverse = np.linalg.inv(lower)
    effects = inverse.T @ (inverse @ moments)
    quadratic = max(float(gains @ gains - moments @ effects), 1e-18)
    variance = quadratic / n
    log_det = 2 * float(np.log(np.diag(lower)).sum()) - float(np.log(ratios).sum())
    likelihood = -0.5 * (n * math.log(variance) + log_det)
    deviations = np.sqrt(variance * (inverse**2).sum(axis=0))
    return _Fit(likelihood, effects, deviations)
