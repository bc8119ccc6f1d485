"""Choosing the instruction to return: on validation prompts, among those that did best in the run.

The best of many noisy train figures is partly luck, so the few with the highest lower bounds are
measured anew, on prompts that no pull has seen, all on the same ones. A guard with `veto` may
refuse an instruction that raises the score and lowers what the guard sees. What is reported of the
one chosen comes from test prompts, which play no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from bigpe.agents.bandit.pool import PoolRow
from bigpe.agents.statistics.intervals import mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.runtime.evaluation.measure import (
    EvaluationRow,
    gains_by_prompt,
    guard_gains,
    measure,
    under,
)
from bigpe.runtime.run.services import Services
from bigpe.services.core.values import Instruction, Value

CANDIDATES = 4
VETO_LEVEL = 0.9
"""Of the guard's interval: below 0 as a whole with it, a loss is beyond noise (one-sided 5%)."""


class Candidate(Value):
    """An instruction that was looked at, and what validation prompts say of it."""

    instruction: Instruction
    train_mean: float | None
    train_lo: float | None
    n: int
    """Validation prompts with a result."""
    gain: float | None
    """Mean paired gain on them, score units; None: no result."""
    guard_gains: dict[str, float]
    """Mean gain by each guard, in its own units."""
    vetoed_by: tuple[str, ...] = ()


class Selection(Value):
    """The candidates, the best one, and what it cost to find it."""

    candidates: tuple[Candidate, ...]
    chosen: Instruction | None
    """None: every candidate was vetoed or gave no result."""
    prompts: int
    renders: int
    """Different pictures that the choice needed, naive ones included."""


def shortlist(rows: Sequence[PoolRow], count: int = CANDIDATES) -> list[PoolRow]:
    """The `count` pulled instructions with the highest lower bound on train, living or not."""
    known = [row for row in rows if row.mean is not None]
    lowest = float("-inf")
    known.sort(key=lambda row: (-(lowest if row.lo is None else row.lo), -(row.mean or 0.0)))
    return known[:count]


def unmeasured(row: PoolRow) -> Selection:
    """The choice of a shortlist of one: nothing is measured, and no guard is heard."""
    candidate = Candidate(
        instruction=row.instruction,
        train_mean=row.mean,
        train_lo=row.lo,
        n=0,
        gain=None,
        guard_gains={},
    )
    return Selection(candidates=(candidate,), chosen=row.instruction, prompts=0, renders=0)


async def select_best(
    services: Services,
    candidates: Sequence[PoolRow],
    prompts: Sequence[str],
    *,
    seeds: int = 1,
    seed: int = 0,
    veto: Collection[str] = (),
    on_row: Callable[[EvaluationRow], None] | None = None,
) -> Selection:
    """Measure the candidates on `prompts` and choose; `veto`: names of guards that may refuse."""
    measured: list[Candidate] = []
    pictures: set[tuple[str, int]] = set()
    for row in candidates:
        treatment = under(row.instruction, row.instruction.id[:8])
        rows = await measure(services, treatment, prompts, seeds=seeds, seed=seed, on_row=on_row)
        measured.append(_judge(row, rows, veto))
        pictures |= painted(rows)
    free = [one for one in measured if one.gain is not None and not one.vetoed_by]
    # Of equal ones the first: it has the higher bound on train.
    best = max(free, key=lambda one: one.gain or 0.0, default=None)
    return Selection(
        candidates=tuple(measured),
        chosen=best.instruction if best else None,
        prompts=len(prompts),
        renders=len(pictures),
    )


def painted(rows: Sequence[EvaluationRow]) -> set[tuple[str, int]]:
    """The pictures that rows rest on, as (prompt, seed)."""
    done = [row for row in rows if row.gain is not None]
    return {(text, row.seed) for row in done for text in (row.prompt, row.text)}


def _judge(row: PoolRow, rows: Sequence[EvaluationRow], veto: Collection[str]) -> Candidate:
    means = [mean(gains) for gains in gains_by_prompt(rows).values()]
    by_guard: Mapping[str, list[float]] = {
        name: [mean(gains) for gains in groups.values()]
        for name, groups in guard_gains(rows).items()
    }
    return Candidate(
        instruction=row.instruction,
        train_mean=row.mean,
        train_lo=row.lo,
        n=len(means),
        gain=mean(means) if means else None,
        guard_gains={name: mean(gains) for name, gains in by_guard.items()},
        vetoed_by=tuple(name for name in by_guard if name in veto and _loses(by_guard[name])),
    )


def _loses(gains: Sequence[float]) -> bool:
    upper = mean_interval(gains, level=VETO_LEVEL).hi
    return upper is not None and upper < 0
