"""The evidence table: effects of terms on gain, estimated from all comparisons of a run.

One batch is too small, so the fit uses every finished pair. Henderson's mixed-model equations have
the naive prompt as a (weakly ridged) fixed effect, and the arm and each term as random effects.
Shrinkage keeps the estimates of rare terms small.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bigpe.agents.evidence.terms import subject_kept, terms_of, words
from bigpe.agents.statistics.intervals import LEVEL, student_quantile
from bigpe.services.core.values import NegativePrompt, Value

Kind = Literal["term", "length", "truncation", "dropped_subject"]
Floats = NDArray[np.floating[Any]]

MAX_TERMS = 150
PROMPT_RATIOS = (0.1, 1.0, 10.0)
"""Grid of the ridge on prompt effects; at 0.1 they act as fixed effects."""
ARM_RATIOS = (1.0, 10.0, 100.0)
TERM_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Grid of noise variance over effect variance; the likeliest value is used."""
START = (10.0, 0.1, 10.0)
"""Start of the search: ratios of terms, prompts and arms."""
Z95 = 1.959964
"""Half-width of a 95% interval in standard deviations."""
FLOOR = 1e-12
"""Smallest noise as a share of the squared gains: an exact fit is a coincidence."""
TINY = 1e-24
BLOCK = 32
DIGITS = 8
"""Significant digits of a result: it must not depend on the linear algebra library."""
LENGTH_UNIT = 10


class PairedComparison(Value):
    """One paired comparison."""

    naive: str
    rewrite: str
    seed: int
    gain: float
    """Score of the rewrite's image minus score of the naive image, score units."""
    arm: str
    """The instruction's id, or "professional"."""
    fallback: bool = False
    truncated: int = 0
    """Number of tokens of the rewrite that the renderer cut off."""
    image: str = ""
    """Digest of the rewrite's image, where a style shows images of earlier rounds."""
    negative: NegativePrompt = ""
    """The negative prompt of the rewrite."""


class EvidenceRow(Value):
    """One estimated effect on the gain."""

    id: str
    """"E1", "E2", ... from the most to the least certain."""
    kind: Kind
    term: str
    effect: float
    """Change of gain with the term (for length: per 10 words), score units."""
    lo: float
    hi: float
    """Upper end of the 95% posterior interval; `lo` is the lower end."""
    n: int
    """Number of pairs with the term."""
    arms: int
    """Number of arms with the term; professional prompts count as one arm."""
    confounded: bool
    """Seen under one arm only, so the effect may belong to the arm."""


class _TextFeatures(NamedTuple):
    """The features of a pair that its texts determine."""

    terms: frozenset[str]
    words: int
    subject_kept: bool


class _Column(NamedTuple):
    kind: Kind
    term: str
    values: Floats
    n: int
    arms: int


class _Fit(NamedTuple):
    effects: Floats
    deviations: Floats


def fit_evidence_table(
    pairs: Sequence[PairedComparison], *, max_rows: int = 12, min_count: int = 2
) -> tuple[EvidenceRow, ...]:
    """At most `max_rows` estimated effects, the most certain first.

    `min_count`: minimum number of pairs with a term, >= 1. Fallbacks compare nothing and are left
    out. A repeated pair (of a professional prompt, shared by several pulls) counts once. The order
    of the pairs does not matter. The result is empty for fewer than two pairs, and while all pairs
    have the same terms.
    """
    distinct = {_sort_key(pair): pair for pair in pairs if not pair.fallback}
    usable = [distinct[place] for place in sorted(distinct)]
    columns = _columns(usable, min_count) if len(usable) > 1 else []
    if not columns:
        return ()
    # More threads take three times the processor time here, which the models need.
    with threadpool_limits(1, "blas"):
        fit = _best_fit(usable, columns)
    figures = [
        (_rounded(effect), _rounded(deviation))
        for effect, deviation in zip(fit.effects, fit.deviations, strict=True)
    ]
    order = sorted(
        range(len(columns)),
        key=lambda j: (-_rounded(abs(figures[j][0]) / figures[j][1]), columns[j][:2]),
    )
    return tuple(
        _row(rank, columns[j], *figures[j]) for rank, j in enumerate(order[:max_rows], start=1)
    )


def _sort_key(pair: PairedComparison) -> tuple[str, str, int, str, float, int]:
    return (pair.naive, pair.arm, pair.seed, pair.rewrite, pair.gain, pair.truncated)


def _rounded(figure: float) -> float:
    return float(f"{figure:.{DIGITS}g}")


def _row(rank: int, column: _Column, effect: float, deviation: float) -> EvidenceRow:
    return EvidenceRow(
        id=f"E{rank}",
        kind=column.kind,
        term=column.term,
        effect=effect,
        lo=_rounded(effect - Z95 * deviation),
        hi=_rounded(effect + Z95 * deviation),
        n=column.n,
        arms=column.arms,
        confounded=column.arms == 1,
    )


@lru_cache(maxsize=8192)
def _text_features(naive: str, rewrite: str) -> _TextFeatures:
    """The features of a pair; cached, because each round uses all earlier pairs again."""
    kept = subject_kept(naive, rewrite)
    return _TextFeatures(terms_of(naive, rewrite), len(words(rewrite)), kept)


def _columns(pairs: Sequence[PairedComparison], min_count: int) -> list[_Column]:
    forms = [_text_features(pair.naive, pair.rewrite) for pair in pairs]
    present: dict[str, list[int]] = defaultdict(list)
    for index, form in enumerate(forms):
        for term in form.terms:
            present[term].append(index)
    merged: dict[tuple[int, ...], str] = {}
    for term, where in present.items():
        if min_count <= len(where) < len(pairs):
            key = tuple(where)
            # Terms that always occur together are indistinguishable: the longest stands for all.
            merged[key] = max(merged.get(key, ""), term, key=lambda t: (len(t), t))
    chosen = sorted(merged.items(), key=lambda item: (-len(item[0]), item[1]))[:MAX_TERMS]
    columns = [_indicator("term", term, where, pairs) for where, term in chosen]
    return columns + _form_columns(pairs, forms)


def _indicator(
    kind: Kind, term: str, where: Sequence[int], pairs: Sequence[PairedComparison]
) -> _Column:
    values = np.zeros(len(pairs))
    values[list(where)] = 1.0
    return _Column(kind, term, values, len(where), len({pairs[i].arm for i in where}))


def _form_columns(
    pairs: Sequence[PairedComparison], forms: Sequence[_TextFeatures]
) -> list[_Column]:
    """The columns of length, truncation and dropped subject, if they vary."""
    columns: list[_Column] = []
    lengths = np.array([form.words / LENGTH_UNIT for form in forms])
    if float(np.ptp(lengths)) > 0.1:
        arms = len({pair.arm for pair in pairs})
        centred = lengths - lengths.mean()
        columns.append(_Column("length", "length", centred, len(pairs), arms))
    cut = [i for i, pair in enumerate(pairs) if pair.truncated > 0]
    dropped = [i for i, form in enumerate(forms) if not form.subject_kept]
    if 1 < len(cut) < len(pairs):
        columns.append(_indicator("truncation", "truncation", cut, pairs))
    if 1 < len(dropped) < len(pairs):
        columns.append(_indicator("dropped_subject", "dropped subject", dropped, pairs))
    return columns


def _best_fit(pairs: Sequence[PairedComparison], columns: Sequence[_Column]) -> _Fit:
    """The fit at the likeliest variance ratios, found by coordinate search."""
    model = _Model(pairs, columns)
    likelihood = cache(model.likelihood)
    best = START
    improved = True
    while improved:
        before = best
        for place, grid in enumerate((TERM_RATIOS, PROMPT_RATIOS, ARM_RATIOS)):
            along = [(*best[:place], ratio, *best[place + 1 :]) for ratio in grid]
            best = max([best, *along], key=lambda ratios: likelihood(*ratios))
        improved = likelihood(*best) > likelihood(*before)
    return model.fit(*best)


class _Model:
    """gain = mean + prompt + arm + terms + noise, the prompts absorbed.

    Henderson's equations C u = W'y with W = [1, arms, terms | prompts] and C = W'W + diag(ratios)
    (0 for the mean). Prompts are many and their block is diagonal, so it is eliminated:
    S = W1'W1 + diag - W1'P (P'P + r)^-1 P'W1. The restricted likelihood follows from
    |C| = |S| |P'P + r| and y'Py = y'y - y'W u (Searle, Casella & McCulloch, Variance Components,
    sections 7.6 and 6.6).
    """

    def __init__(self, pairs: Sequence[PairedComparison], columns: Sequence[_Column]) -> None:
        """`pairs` must be sorted by naive prompt."""
        gains = np.array([pair.gain for pair in pairs])
        arms = _dummies([pair.arm for pair in pairs])
        terms = np.stack([column.values for column in columns], axis=1)
        design = np.hstack([np.ones((len(pairs), 1)), arms, terms])
        starts = [i for i, p in enumerate(pairs) if i == 0 or p.naive != pairs[i - 1].naive]
        self._df = len(pairs) - 1
        self._arms, self._terms = arms.shape[1], terms.shape[1]
        self._square = float(gains @ gains)
        self._cross, self._moments = design.T @ design, design.T @ gains
        self._counts = np.diff([*starts, len(pairs)]).astype(np.float64)
        self._by_prompt: Floats = np.add.reduceat(design, starts, axis=0)
        self._sums: Floats = np.add.reduceat(gains, starts)
        self._absorbed: dict[float, tuple[Floats, Floats, float, float]] = {}

    def likelihood(self, term: float, prompt: float, arm: float) -> float:
        """Restricted log-likelihood at these ratios, with the noise variance profiled out."""
        system, moments, log_prompts = self._system(term, prompt, arm)
        factor, solved = _cholesky(system, moments[None, :])
        variance = self._variance(prompt, solved[0])
        log_det = log_prompts + 2 * float(np.log(np.diag(factor)).sum())
        log_det -= self._arms * math.log(arm) + self._terms * math.log(term)
        return -0.5 * (self._df * math.log(variance) + log_det)

    def fit(self, term: float, prompt: float, arm: float) -> _Fit:
        """Effects of the terms and their standard deviations.

        The deviations are widened by Student's t, because few pairs leave the noise uncertain.
        """
        system, moments, _ = self._system(term, prompt, arm)
        identity = np.eye(len(system))
        _, solved = _cholesky(system, np.vstack([moments, identity]))
        half, root = solved[0], solved[1:]
        variance = self._variance(prompt, half)
        spread = np.sqrt(variance * (root**2).sum(axis=1))
        widening = student_quantile(LEVEL, self._df) / Z95
        return _Fit((root @ half)[-self._terms :], widening * spread[-self._terms :])

    def _system(self, term: float, prompt: float, arm: float) -> tuple[Floats, Floats, float]:
        system, moments, _, log_prompts = self._absorb(prompt)
        ratios = np.repeat([0.0, arm, term], [1, self._arms, self._terms])
        return system + np.diag(ratios), moments, log_prompts

    def _variance(self, prompt: float, half: Floats) -> float:
        rest = self._square - self._absorb(prompt)[2] - float(half @ half)
        return max(rest, FLOOR * self._square, TINY) / self._df

    def _absorb(self, ratio: float) -> tuple[Floats, Floats, float, float]:
        """The system without prompt effects, the part they explain, and their log determinant."""
        if ratio not in self._absorbed:
            weights = 1 / (self._counts + ratio)
            weighted = self._by_prompt * weights[:, None]
            self._absorbed[ratio] = (
                self._cross - self._by_prompt.T @ weighted,
                self._moments - weighted.T @ self._sums,
                float(weights @ self._sums**2),
                -float(np.log(weights * ratio).sum()),
            )
        return self._absorbed[ratio]


def _cholesky(system: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """L with L L' = `system`, and `rows` L'^-1, one block of columns after another.

    LAPACK's routine splits even small systems among threads, which took a hundred times longer on a
    busy machine.
    """
    n = len(system)
    rest = np.vstack([system, rows])
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        corner: Floats = np.linalg.cholesky(rest[start:end, start:end])
        below: Floats = np.linalg.solve(corner, rest[end:, start:end].T).T
        rest[start:end, start:end] = corner
        rest[end:, start:end] = below
        rest[end:, end:] -= below @ below[: n - end].T
    return np.tril(rest[:n]), rest[n:]


def _dummies(labels: Sequence[str]) -> Floats:
    names = {name: column for column, name in enumerate(sorted(set(labels)))}
    table = np.zeros((len(labels), len(names)))
    table[np.arange(len(labels)), [names[label] for label in labels]] = 1.0
    return table
