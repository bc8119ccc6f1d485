"""What is measured of a finished run: one function a kind of experiment.

All of it is asked of the evaluation's own services, on prompts that the run could not see; a run's
seed also decides the pictures that it is judged by, so that equal seeds compare alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from bigpe.runtime.run.plan import naive_set, professional_matches
from bigpe.runtime.transcript.health import findings_of
from bigpe.runtime.transcript.reader import messages
from bigpe.services.core.values import Instruction, derive_seed
from bigpe.services.prompt_data.library import PromptLibrary
from bigpe.services.store.database import Store

SEED_INSTRUCTION = "seed instruction"
PROFESSIONAL = "professional prompts"
EVIDENCE_ROWS = 60
"""Rows of a run's last evidence table that are judged."""
HELD_OUT_SHARE = 0.25
"""Of subjects, in the transfer experiment."""
SAME, NEW, OTHER_TYPES, OTHER_RENDERER = (
    "same subjects",
    "new subjects",
    "other prompt types",
    "another renderer",
)

Gains = dict[str, dict[str, float]]


@dataclass
class Measured:
    """What a measure found."""

    gains: Gains = field(default_factory=Gains)
    curves: dict[str, list[tuple[float, float]]] = field(
        default_factory=dict[str, list[tuple[float, float]]]
    )
    figures: dict[str, float | None] = field(default_factory=dict[str, float | None])
    faults: tuple[str, ...] = ()
    """What diagnostics see at the run's end."""


@dataclass(frozen=True)
class Judging:
    """How runs are judged, the same for all cells of a grid."""

    test_prompts: int = 24
    """Held-out naive prompts, one picture each, at most."""
    truth: Mapping[str, float] = field(default_factory=dict[str, float])
    """Known effects of terms, for `gradient-validity`; without any, people judge a worksheet."""
    other_renderer: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`[render]` settings that make another renderer, for `transfer`."""
    everything: tuple[str, ...] = ()
    """All naive prompts of the project, for `transfer`."""

    def told(self, kind: Measure) -> dict[str, Any]:
        """What a cell's identity must contain of it."""
        told: dict[str, Any] = {"test_prompts": self.test_prompts}
        if kind == "gradients":
            told["truth"] = dict(self.truth)
        if kind == "transfer":
            told["other_renderer"] = dict(self.other_renderer)
            told["everything"] = list(self.everything)
        return told


async def measured(
    kind: Measure,
    run: str,
    config: BigpeConfig,
    project: Project,
    models: SharedModels,
    watches: Stopwatches,
    judging: Judging,
) -> Measured:
    """What the experiment measures of a complete run."""
    async with open_run_for_evaluation(
        run,
        project=project.folder,
        llms=models.llms,
        renderer=models.renderer,
        scorer=models.scorer,
    ) as judged:
        found = await _MEASURES[kind](judged, judging)
        found.curves[POOL_DIVERSITY] = await diversity_curve(judged)
        found.faults = tuple(one.fault for one in await findings_of(judged.store, run))
        best = judged.campaign.pool.best().instruction
    if kind == "transfer" and judging.other_renderer:
        other = _with_renderer(config, judging.other_renderer)
        async with open_models(other, project, watches) as others:
            found.gains[OTHER_RENDERER] = await _elsewhere(
                run, best, project, others, judging.test_prompts
            )
    return found


async def _elsewhere(
    run: str, best: Instruction, project: Project, models: SharedModels, count: int
) -> dict[str, float]:
    async with open_run_for_evaluation(
        run,
        project=project.folder,
        llms=models.llms,
        renderer=models.renderer,
        scorer=models.scorer,
    ) as judged:
        return await _gains(judged, under(best, OTHER_RENDERER), _test(judged, count))


# -- by kind --------------------------------------------------------------------------------------


async def _heldout(judged: EvaluatedRun, judging: Judging) -> Measured:
    best = under(judged.campaign.pool.best().instruction, BEST)
    return Measured({BEST: await _gains(judged, best, _test(judged, judging.test_prompts))})


async def _baselines(judged: EvaluatedRun, judging: Judging) -> Measured:
    prompts = _test(judged, judging.test_prompts)
    matches = await professional_matches(prompts, PromptLibrary(judged.store))
    first = judged.campaign.plan.instructions[0].instruction
    treatments = (
        PLAIN,
        under(first, SEED_INSTRUCTION),
        Treatment(name=PROFESSIONAL, kind="texts", texts=matches),
        under(judged.campaign.pool.best().instruction, BEST),
    )
    return Measured({t.name: await _gains(judged, t, prompts) for t in treatments})


async def _gradients(judged: EvaluatedRun, judging: Judging) -> Measured:
    found = await _heldout(judged, judging)
    if not judging.truth:
        return found
    rows = fit_evidence_table(judged.campaign.pairs, max_rows=EVIDENCE_ROWS)
    found.figures = row_validity(rows, judging.truth) | claim_validity(
        await _claims(judged.store, judged.name), judging.truth
    )
    return found


async def _transfer(judged: EvaluatedRun, judging: Judging) -> Measured:
    """The run learned from a file without the held-out subjects, see `without_held_out`."""
    best = judged.campaign.pool.best().instruction
    known = {word for naive in judged.campaign.plan.train for word in subject_words(naive)}
    groups = {
        SAME: [naive for naive in judged.prompts("test") if subject_words(naive) <= known],
        NEW: [n for n in judging.everything if is_held_out(n) and not subject_words(n) & known],
        OTHER_TYPES: list(naive_prompts("general")),
    }
    return Measured(
        {
            name: await _gains(judged, under(best, name), drawn(prompts, judging.test_prompts))
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


def _test(judged: EvaluatedRun, count: int) -> list[str]:
    return drawn(judged.prompts("test"), count)


def drawn(prompts: Sequence[str], count: int) -> list[str]:
    """`count` of the prompts, by hash: the same for every cell, and none is special."""
    return sorted(prompts, key=lambda naive: derive_seed("experiment-test", naive))[:count]


async def _gains(
    judged: EvaluatedRun, treatment: Treatment, prompts: Sequence[str]
) -> dict[str, float]:
    rows = await measure(judged.services, treatment, prompts, seed=judged.config.run.seed)
    return {naive: mean(gains) for naive, gains in gains_by_prompt(rows).items()}


async def claims_of_runs(project: Project, runs: Sequence[str]) -> list[Claim]:
    """The gradients of these runs, in order."""
    async with Store(project.database, read_only=True) as store:
        return [claim for run in runs for claim in await _claims(store, run)]


async def _claims(store: Store, run: str) -> list[Claim]:
    stored = messages(store, run, CritiqueRequested, GradientsComputed)
    return claims_of([message async for _, _, message in stored])


# -- the pool over time ---------------------------------------------------------------------------


async def diversity_curve(judged: EvaluatedRun) -> list[tuple[float, float]]:
    """(round, mean distance of all pairs of living instructions) where there are two or more."""
    living: dict[str, Instruction] = {}
    points: list[tuple[float, float]] = []
    async for _, _, message in messages(judged.store, judged.name, RunStarted, PoolChanged):
        if isinstance(message, RunStarted):
            seeds = (seed.instruction for seed in message.plan.instructions)
            living = {one.id: one for one in seeds}
        else:
            living |= {one.id: one for one in message.admitted}
            for gone in message.retired:
                living.pop(gone.instruction, None)
            if (found := pool_diversity(living.values())) is not None:
                points.append((float(message.round), round(found, 4)))
    return points


# -- subjects held out ----------------------------------------------------------------------------


def is_held_out(naive: str) -> bool:
    """Whether a prompt's subject is one of those that a transfer run never sees, by hash."""
    return derive_seed("transfer", *sorted(subject_words(naive))) / 2**31 < HELD_OUT_SHARE


def without_held_out(config: BigpeConfig, project: Project) -> BigpeConfig:
    """The configuration on a file of the project's naive prompts without the held-out subjects."""
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
