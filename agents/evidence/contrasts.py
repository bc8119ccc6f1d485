"""Comparisons within one naive prompt and seed, where the subject makes no difference.

Two rewrites of different naive prompts differ in their subjects first. So a gradient is written
from rewrites of one prompt, and two instructions are compared on the prompts that both had.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.statistics.intervals import mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.services.core.values import Value

PROFESSIONAL = "professional"
"""`PairedComparison.arm` of professional prompts, which no instruction wrote."""


class Contrast(Value):
    """The best and the worst rewrite of one naive prompt, rendered with one seed."""

    best: PairedComparison
    worst: PairedComparison

    @property
    def spread(self) -> float:
        """Difference of the two gains, score units, >= 0."""
        return self.best.gain - self.worst.gain


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
    by_task: dict[tuple[str, int], list[PairedComparison]] = defaultdict(list)
    for pair in pairs:
        if (pair.naive, pair.seed) in wanted and _is_rewrite(pair):
            by_task[pair.naive, pair.seed].append(pair)
    found: list[Contrast] = []
    for rewrites in by_task.values():
        ordered = sorted(rewrites, key=lambda pair: (pair.gain, pair.arm, pair.rewrite))
        texts = {(pair.rewrite, pair.negative) for pair in (ordered[0], ordered[-1])}
        if len(texts) == 2:
            found.append(Contrast(best=ordered[-1], worst=ordered[0]))
    found.sort(key=lambda contrast: (-contrast.spread, contrast.best.naive, contrast.best.seed))
    return tuple(found[:most])


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


def _is_rewrite(pair: PairedComparison) -> bool:
    return pair.arm != PROFESSIONAL and not pair.fallback
