"""Measurements of a finished run: one function per kind of experiment.

They use the services of an evaluation and held-out prompts. The run's seed also decides the image
seeds of its measurement, so that runs with equal seeds are paired.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigpe.agents.diagnostics.text_diversity import pool_diversity
from bigpe.agents.evidence.mixed_model import fit_evidence_table
from bigpe.agents.evidence.terms import subject_words
from bigpe.agents.messages.core import CritiqueRequested, GradientsComputed, PoolChanged, RunStarted
from bigpe.agents.statistics.moments import mean
from bigpe.prompts.library import naive_prompts
from bigpe.runtime.evaluation.measure import PLAIN, Treatment, gains_by_prompt, measure, under
from bigpe.runtime.evaluation.open_run import EvaluatedRun, open_run_for_evaluation
from bigpe.runtime.experiments.cells import POOL_DIVERSITY
from bigpe.runtime.experiments.gradient_validity import (
    Claim,
    claim_validity,
    claims_of,
    row_validity,
)
from bigpe.runtime.experiments.grids import Measure
from bigpe.runtime.experiments.report.tables import BEST
from bigpe.runtime.experiments.shared_models import SharedModels, Stopwatches, open_models
from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.professional import library_for
from bigpe.runtime.run.plan import naive_set, professional_matches
from bigpe.runtime.transcript.health import findings_of
from bigpe.runtime.transcript.reader import messages
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.store.database import Store

SEED_INSTRUCTION = "seed instruction"
PROFESSIONAL = "professional prompts"
EVIDENCE_ROWS = 60
"""Rows of a run's last evidence table that are checked."""
HELD_OUT_SHARE = 0.25
"""Share of held-out subjects in the transfer experiment."""
SAME, NEW, OTHER_TYPES, OTHER_RENDERER = (
    "same subjects",
    "new subjects",
    "other prompt types",
    "another renderer",
)

Gains = dict[str, dict[str, float]]


@dataclass
class Measured:
    """The result of a measurement."""

    gains: Gains = field(default_factory=Gains)
    curves: dict[str, list[tuple[float, float]]] = field(
        default_factory=dict[str, list[tuple[float, float]]]
    )
    figures: dict[str, float | None] = field(default_factory=dict[str, float | None])
    faults: tuple[str, ...] = ()
    """Faults that diagnostics find at the run's end."""


@dataclass(frozen=True)
class Judging:
    """Settings of the measurement, the same for all cells of a grid."""

    test_prompts: int = 24
    """Most held-out naive prompts; each has one image."""
    truth: Mapping[str, float] = field(default_factory=dict[str, float])
    """True effects of terms, for `gradient-validity`; empty: people rate a worksheet."""
    other_renderer: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`[render]` settings of another renderer, for `transfer`."""
    everything: tuple[str, ...] = ()
    """All naive prompts of the project, for `transfer`."""

    def identity(self, kind: Measure) -> dict[str, Any]:
        """The settings that are part of a cell's identity."""
        found: dict[str, Any] = {"test_prompts": self.test_prompts}
        if kind == "gradients":
            found["truth"] = dict(self.truth)
        if kind == "transfer":
            found["other_renderer"] = dict(self.other_renderer)
            found["everything"] = list(self.everything)
        return found


async def measured(
    kind: Measure,
    run: str,
    config: BigpeConfig,
    project: Project,
    models: SharedModels,
    watches: Stopwatches,
    judging: Judging,
) -> Measured:
    """Measure a complete run."""
    async with _opened(run, project, models) as opened:
        found = await _MEASURES[kind](opened, judging)
        found.curves[POOL_DIVERSITY] = await diversity_curve(opened)
        found.faults = tuple(finding.fault for finding in await findings_of(opened.store, run))
        best = under(opened.campaign.pool.best().instruction, OTHER_RENDERER)
    if kind == "transfer" and judging.other_renderer:
        other = _with_renderer(config, judging.other_renderer)
        async with (
            open_models(other, project, watches) as others,
            _opened(run, project, others) as opened,
        ):
            prompts = _test(opened, judging.test_prompts)
            found.gains[OTHER_RENDERER] = await _gains(opened, best, prompts)
    return found


def _opened(
    run: str, project: Project, models: SharedModels
) -> AbstractAsyncContextManager[EvaluatedRun]:
    return open_run_for_evaluation(
        run,
        project=project.folder,
        llms=models.llms,
        renderer=models.renderer,
        scorer=models.scorer,
    )


# -- by kind --------------------------------------------------------------------------------------


async def _heldout(run: EvaluatedRun, judging: Judging) -> Measured:
    best = under(run.campaign.pool.best().instruction, BEST)
    return Measured({BEST: await _gains(run, best, _test(run, judging.test_prompts))})


async def _baselines(run: EvaluatedRun, judging: Judging) -> Measured:
    prompts = _test(run, judging.test_prompts)
    matches = await professional_matches(prompts, library_for(run.config, run.store))
    first = run.campaign.plan.instructions[0].instruction
    treatments = (
        PLAIN,
        under(first, SEED_INSTRUCTION),
        Treatment(name=PROFESSIONAL, kind="texts", texts=matches),
        under(run.campaign.pool.best().instruction, BEST),
    )
    return Measured({t.name: await _gains(run, t, prompts) for t in treatments})


async def _gradients(run: EvaluatedRun, judging: Judging) -> Measured:
    found = await _heldout(run, judging)
    if not judging.truth:
        return found
    rows = fit_evidence_table(run.campaign.pairs, max_rows=EVIDENCE_ROWS)
    found.figures = row_validity(rows, judging.truth) | claim_validity(
        await _claims(run.store, run.name), judging.truth
    )
    return found


async def _transfer(run: EvaluatedRun, judging: Judging) -> Measured:
    """Measure a run whose prompts have no held-out subjects; see `without_held_out`."""
    best = run.campaign.pool.best().instruction
    seen = {word for naive in run.campaign.plan.train for word in subject_words(naive)}
    groups = {
        SAME: [naive for naive in run.prompts("test") if subject_words(naive) <= seen],
        NEW: [n for n in judging.everything if is_held_out(n) and not subject_words(n) & seen],
        OTHER_TYPES: list(naive_prompts("general")),
    }
    return Measured(
        {
            name: await _gains(run, under(best, name), drawn(prompts, judging.test_prompts))
            for name, prompts in groups.items()
            if prompts
        }
    )


_MEASURES: dict[Measure, Callable[[EvaluatedRun, Judging], Awaitable[Measured]]] = {
    "heldout": _heldout,
    "baselines": _baselines,
    "gradients": _gradients,
    "transfer": _transfer,
}


def _test(run: EvaluatedRun, count: int) -> list[str]:
    return drawn(run.prompts("test"), count)


def drawn(prompts: Sequence[str], count: int) -> list[str]:
    """`count` of the prompts, chosen by hash, so that all cells have the same."""
    return sorted(prompts, key=lambda naive: derive_seed("experiment-test", naive))[:count]


async def _gains(
    run: EvaluatedRun, treatment: Treatment, prompts: Sequence[str]
) -> dict[str, float]:
    rows = await measure(run.services, treatment, prompts, seed=run.config.run.seed)
    return {naive: mean(gains) for naive, gains in gains_by_prompt(rows).items()}


async def claims_of_runs(project: Project, runs: Sequence[str]) -> list[Claim]:
    """The gradients of these runs, in order."""
    async with Store(project.database, read_only=True) as store:
        return [claim for run in runs for claim in await _claims(store, run)]


async def _claims(store: Store, run: str) -> list[Claim]:
    stored = messages(store, run, CritiqueRequested, GradientsComputed)
    return claims_of([message async for _, _, message in stored])


# -- the pool over time ---------------------------------------------------------------------------


async def diversity_curve(run: EvaluatedRun) -> list[tuple[float, float]]:
    """(round, mean distance of all pairs of active instructions), if there are at least two."""
    living: dict[str, Instruction] = {}
    points: list[tuple[float, float]] = []
    async for _, _, message in messages(run.store, run.name, RunStarted, PoolChanged):
        if isinstance(message, RunStarted):
            seeds = (seed.instruction for seed in message.plan.instructions)
            living = {instruction.id: instruction for instruction in seeds}
        else:
            living |= {instruction.id: instruction for instruction in message.admitted}
            for retired in message.retired:
                living.pop(retired.instruction, None)
            if (found := pool_diversity(living.values())) is not None:
                points.append((float(message.round), round(found, 4)))
    return points


# -- held-out subjects ----------------------------------------------------------------------------


def is_held_out(naive: str) -> bool:
    """Whether transfer runs exclude a prompt's subject; decided by hash."""
    return derive_seed("transfer", *sorted(subject_words(naive))) / 2**31 < HELD_OUT_SHARE


def without_held_out(config: BigpeConfig, project: Project) -> BigpeConfig:
    """The configuration with a file of the naive prompts without held-out subjects."""
    kept = [n for n in naive_set(config, project.folder).splits.places if not is_held_out(n)]
    path = Path("experiments") / "transfer.txt"
    (project.folder / path).parent.mkdir(parents=True, exist_ok=True)
    (project.folder / path).write_text("\n".join(kept) + "\n", encoding="utf-8")
    data = config.data.model_copy(update={"naive": str(path), "column": None})
    return config.model_copy(update={"data": data})


def _with_renderer(config: BigpeConfig, changes: Mapping[str, Any]) -> BigpeConfig:
    raw = config.model_dump(mode="json", exclude_none=True)
    raw["render"] |= changes
    return check_config(raw, where="the other renderer")
