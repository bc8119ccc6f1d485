"""Selection of the returned instruction, on validation prompts.

The highest of many train means is biased upwards. So the instructions with the highest lower bounds
are measured again, on the same validation prompts. A guard with `veto` refuses an instruction that
it rates worse than the naive prompts. Reported results come from test prompts, which have no
influence here.
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
"""Level of the guard's interval. If it is below 0, the loss is significant (one-sided 5%)."""


class Candidate(Value):
    """An instruction of the shortlist with its results on train and validation prompts."""

    instruction: Instruction
    train_mean: float | None
    train_lo: float | None
    n: int
    """Validation prompts with a result."""
    gain: float | None
    """Mean paired gain on validation prompts, score units; None without a result."""
    guard_gains: dict[str, float]
    """Mean gain by guard, in the guard's units."""
    vetoed_by: tuple[str, ...] = ()


class Selection(Value):
    """The candidates, the chosen instruction, and the cost of the selection."""

    candidates: tuple[Candidate, ...]
    chosen: Instruction | None
    """None if each candidate was vetoed or has no result."""
    prompts: int
    renders: int
    """Distinct images of the selection, with naive images."""


def shortlist(rows: Sequence[PoolRow], count: int = CANDIDATES) -> list[PoolRow]:
    """The `count` pulled instructions, also retired ones, with the highest lower train bounds."""
    pulled = [row for row in rows if row.mean is not None]
    lowest = float("-inf")
    pulled.sort(key=lambda row: (-(lowest if row.lo is None else row.lo), -(row.mean or 0.0)))
    return pulled[:count]


def unmeasured(row: PoolRow) -> Selection:
    """The selection of a single candidate, without measurement and guards."""
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
    """Measure the candidates on `prompts` and select; `veto`: names of guards that may refuse."""
    measured: list[Candidate] = []
    images: set[tuple[str, int]] = set()
    for row in candidates:
        treatment = under(row.instruction, row.instruction.id[:8])
        rows = await measure(services, treatment, prompts, seeds=seeds, seed=seed, on_row=on_row)
        measured.append(_candidate(row, rows, veto))
        images |= rendered(rows)
    accepted = [c for c in measured if c.gain is not None and not c.vetoed_by]
    # Among equal gains `max` takes the first, which has the highest bound on train.
    best = max(accepted, key=lambda candidate: candidate.gain or 0.0, default=None)
    return Selection(
        candidates=tuple(measured),
        chosen=best.instruction if best else None,
        prompts=len(prompts),
        renders=len(images),
    )


def rendered(rows: Sequence[EvaluationRow]) -> set[tuple[str, int]]:
    """The distinct images of rows with a gain, as (prompt, seed)."""
    done = [row for row in rows if row.gain is not None]
    return {(text, row.seed) for row in done for text in (row.prompt, row.text)}


def _candidate(row: PoolRow, rows: Sequence[EvaluationRow], veto: Collection[str]) -> Candidate:
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
