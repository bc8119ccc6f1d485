"""Diversity of texts: pure functions; distances are in [0, 1]."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

from bigpe.agents.evidence.terms import STOP_WORDS, terms_of, words
from bigpe.agents.statistics.moments import mean
from bigpe.services.core.values import Instruction


def distance(first: Collection[str], second: Collection[str]) -> float:
    """Jaccard distance of two sets: 0 for equal sets, 1 for disjoint sets."""
    a, b = set(first), set(second)
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


def content(instruction: Instruction) -> frozenset[str]:
    """Content of an instruction: content words of its text, terms that its exemplars add."""
    terms = {word for word in words(instruction.text) if word not in STOP_WORDS}
    for exemplar in instruction.exemplars:
        terms |= terms_of(exemplar.naive, exemplar.rewrite)
    return frozenset(terms)


def pool_diversity(instructions: Iterable[Instruction]) -> float | None:
    """Mean distance of all pairs of instructions; None for fewer than two."""
    return mean_distance([content(instruction) for instruction in instructions])


def rewrite_diversity(rewrites: Iterable[tuple[str, str]]) -> float | None:
    """Mean distance of the terms that (naive, rewrite) pairs add; None for fewer than two."""
    return mean_distance([terms_of(naive, rewrite) for naive, rewrite in rewrites])


def spread(vectors: Sequence[Sequence[float]]) -> float | None:
    """Mean cosine distance of all pairs of unit vectors, in [0, 2]; None for fewer than two.

    It uses sum_ij v_i v_j = |sum v|^2; n of these products are of a vector with itself.
    """
    n = len(vectors)
    if n < 2:
        return None
    square = math.fsum(math.fsum(column) ** 2 for column in zip(*vectors, strict=True))
    return 1 - (square - n) / (n * (n - 1))


class ContentTermIndex:
    """An index of instruction contents that finds the nearest content quickly."""

    def __init__(self) -> None:
        self._counts: Counter[frozenset[str]] = Counter()
        """Number of occurrences of each content."""
        self._by_round: dict[int, list[frozenset[str]]] = defaultdict(list)
        self._having: dict[str, dict[frozenset[str], None]] = defaultdict(dict)

    def add(self, terms: frozenset[str], round: int) -> None:
        """Add the content of an instruction that was proposed in `round`."""
        self._by_round[round].append(terms)
        self._counts[terms] += 1
        for word in terms:
            self._having[word][terms] = None

    def forget(self, before: int) -> None:
        """Remove the contents of rounds before `before`."""
        for round in [round for round in self._by_round if round < before]:
            for terms in self._by_round.pop(round):
                self._counts[terms] -= 1
                if not self._counts[terms]:
                    self._drop(terms)

    def _drop(self, terms: frozenset[str]) -> None:
        del self._counts[terms]
        for word in terms:
            del self._having[word][terms]
            if not self._having[word]:
                del self._having[word]

    def nearest(self, own: frozenset[str]) -> float | None:
        """Distance to the nearest content; None if the index is empty."""
        if not self._counts or own in self._counts:
            return 0.0 if self._counts else None
        shared: Counter[frozenset[str]] = Counter()
        for word in own:
            shared.update(self._having.get(word, {}).keys())
        # Contents without a shared word have distance 1.
        apart = len(own)
        return min(
            (1 - both / (apart + len(terms) - both) for terms, both in shared.items()),
            default=1.0,
        )


def mean_distance(sets: Sequence[frozenset[str]]) -> float | None:
    """Mean distance of all pairs of sets; None for fewer than two sets."""
    found = [distance(first, second) for first, second in combinations(sets, 2)]
    return mean(found) if found else None
