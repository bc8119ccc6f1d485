"""Comparisons within one naive prompt and seed, where the subject makes no difference.

Two rewrites of different naive prompts differ in their subjects first. So a gradient is written
from rewrites of one prompt, and two instructions are compared on the prompts that both had.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.evidence.terms import units, words
from bigpe.agents.statistics.intervals import mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.services.core.values import Value

PROFESSIONAL = "professional"
"""`PairedComparison.arm` of professional prompts, which no instruction wrote."""
SAME_SHARE = 0.97
"""Dice coefficient of the words of two rewrites that count as equal. In a list of 30 words, one
other word is a difference: it may be the one that pays."""
BETWEEN = 4
"""Rewrites of a contrast between the best and the worst."""


class Contrast(Value):
    """The best and the worst rewrite of one naive prompt, rendered with one seed."""

    best: PairedComparison
    worst: PairedComparison
    between: tuple[PairedComparison, ...] = ()
    """The newest of the other rewrites, best first."""

    @property
    def spread(self) -> float:
        """Difference of the two gains, score units, >= 0."""
        return self.best.gain - self.worst.gain


class TermTally(Value):
    """What rewrites with a term gain more than others, within one naive prompt and seed."""

    term: str
    prompts: int
    """Number of naive prompts with rewrites of both kinds, >= 1."""
    better: int
    """Number of those on which the rewrites with the term gain more."""
    mean: float
    """Mean difference over these prompts, score units."""


class GainDifference(NamedTuple):
    """How much more one instruction gained than another on the prompts that both had."""

    prompts: int
    """Number of naive prompts, >= 1."""
    mean: float
    """Mean over prompts, score units."""
    lo: float | None
    hi: float | None
    """95% interval (Student); None for a single prompt."""


def contrasts(
    pairs: Iterable[PairedComparison], tasks: Iterable[tuple[str, int]], *, most: int
) -> tuple[Contrast, ...]:
    """The contrasts of `tasks`, pairs of naive prompt and image seed; the widest first.

    A task without two different rewrites has no contrast. Fallbacks and professional prompts are
    left out: no instruction wrote them. At most `most` contrasts.
    """
    wanted = set(tasks)
    found: list[Contrast] = []
    for task, rewrites in _by_task(pairs).items():
        if task not in wanted:
            continue
        ordered = sorted(rewrites, key=_rank)
        best, worst = ordered[-1], ordered[0]
        texts = {(pair.rewrite, pair.negative) for pair in (best, worst)}
        if len(texts) == 2:
            between = _between(rewrites, texts)
            found.append(Contrast(best=best, worst=worst, between=between))
    found.sort(key=lambda contrast: (-contrast.spread, contrast.best.naive, contrast.best.seed))
    return tuple(found[:most])


def _between(
    rewrites: Sequence[PairedComparison], texts: set[tuple[str, str]]
) -> tuple[PairedComparison, ...]:
    """The newest `BETWEEN` rewrites with other texts, best first."""
    seen, kept = set(texts), list[PairedComparison]()
    for pair in reversed(rewrites):
        if len(kept) < BETWEEN and (pair.rewrite, pair.negative) not in seen:
            seen.add((pair.rewrite, pair.negative))
            kept.append(pair)
    return tuple(sorted(kept, key=_rank, reverse=True))


def same_rewrites(
    pairs: Iterable[PairedComparison],
    parent: str,
    rewrites: Mapping[tuple[str, int], tuple[str, str]],
) -> bool:
    """Whether an instruction rewrites as its parent does.

    Args:
        pairs: Comparisons, among them those of the parent.
        parent: Id of the parent.
        rewrites: Rewrite and negative prompt, by naive prompt and image seed, without fallbacks.

    Returns:
        True if at least half of `rewrites` have one of the parent to compare with, and each of
        these pairs shares at least `SAME_SHARE` of its words.
    """
    of_parent = {(p.naive, p.seed): p for p in pairs if p.arm == parent and not p.fallback}
    both = [key for key in rewrites if key in of_parent]
    return (
        bool(both)
        and 2 * len(both) >= len(rewrites)
        and all(
            alike(" ".join(rewrites[key]), f"{of_parent[key].rewrite} {of_parent[key].negative}")
            for key in both
        )
    )


def alike(text: str, other: str) -> bool:
    """Whether two texts share at least `SAME_SHARE` of their words."""
    first, second = Counter(units(text)), Counter(units(other))
    shared = (first & second).total()
    return 2 * shared >= SAME_SHARE * (first.total() + second.total())


def term_tallies(pairs: Iterable[PairedComparison], terms: Iterable[str]) -> tuple[TermTally, ...]:
    """The tally of each of `terms` that some naive prompt had with and without, in their order.

    Rewrites are compared with others of the same naive prompt and seed; then prompts are averaged.
    """
    texts = {
        task: [(f" {' '.join(words(pair.rewrite))} ", pair.gain) for pair in rewrites]
        for task, rewrites in _by_task(pairs).items()
        if len(rewrites) > 1
    }
    found: list[TermTally] = []
    for term in terms:
        inside = f" {' '.join(words(term))} "
        by_prompt: dict[str, list[float]] = defaultdict(list)
        for (naive, _), rewrites in texts.items():
            having = [gain for text, gain in rewrites if inside in text]
            lacking = [gain for text, gain in rewrites if inside not in text]
            if having and lacking:
                by_prompt[naive].append(mean(having) - mean(lacking))
        means = [mean(by_prompt[naive]) for naive in sorted(by_prompt)]
        if means:
            better = sum(value > 0 for value in means)
            found.append(TermTally(term=term, prompts=len(means), better=better, mean=mean(means)))
    return tuple(found)


def gain_over(pairs: Iterable[PairedComparison], child: str, parent: str) -> GainDifference | None:
    """What `child` gained more than `parent` on equal prompts and seeds; None without any.

    Both are ids of instructions. Fallbacks count: an instruction that provokes them pays for it.
    """
    gains: dict[str, dict[tuple[str, int], float]] = {child: {}, parent: {}}
    for pair in pairs:
        if pair.arm in gains:
            gains[pair.arm][pair.naive, pair.seed] = pair.gain
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for task in sorted(gains[child].keys() & gains[parent].keys()):
        by_prompt[task[0]].append(gains[child][task] - gains[parent][task])
    if child == parent or not by_prompt:
        return None
    interval = mean_interval([mean(values) for values in by_prompt.values()])
    return GainDifference(len(by_prompt), *interval)


def prompts_won(pairs: Sequence[PairedComparison]) -> dict[str, tuple[str, ...]]:
    """The naive prompts on which each instruction gained most, by instruction, in sorted order.

    Only prompts that at least two instructions had. Equal gains have no winner.
    """
    by_prompt: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        if pair.arm != PROFESSIONAL:
            by_prompt[pair.naive][pair.arm].append(pair.gain)
    won: dict[str, tuple[str, ...]] = {}
    for naive in sorted(by_prompt):
        means = {arm: mean(gains) for arm, gains in by_prompt[naive].items()}
        best = max(means.values())
        winners = [arm for arm, value in means.items() if value == best]
        if len(means) > 1 and len(winners) == 1:
            won[winners[0]] = (*won.get(winners[0], ()), naive)
    return won


def _by_task(
    pairs: Iterable[PairedComparison],
) -> dict[tuple[str, int], list[PairedComparison]]:
    """The usable rewrites of instructions by naive prompt and seed, in order."""
    found: dict[tuple[str, int], list[PairedComparison]] = defaultdict(list)
    for pair in pairs:
        if _is_rewrite(pair):
            found[pair.naive, pair.seed].append(pair)
    return found


def _rank(pair: PairedComparison) -> tuple[float, str, str]:
    return pair.gain, pair.arm, pair.rewrite


def _is_rewrite(pair: PairedComparison) -> bool:
    return pair.arm != PROFESSIONAL and not pair.fallback
