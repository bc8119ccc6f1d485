"""The steps of `bigpe evaluate`: select on validation prompts, compare on test prompts, store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from bigpe.agents.bandit.pool import PoolRow
from bigpe.agents.diagnostics.text_diversity import pool_diversity
from bigpe.agents.statistics.confidence_sequence import FIRST_LOOK, SequenceState, sequence_state
from bigpe.agents.statistics.moments import mean
from bigpe.runtime.evaluation.compare import Evaluation, SequenceLine, compare, prompt_lines
from bigpe.runtime.evaluation.measure import (
    NAIVE,
    PLAIN,
    EvaluationRow,
    Treatment,
    gains_by_prompt,
    measure,
    under,
)
from bigpe.runtime.evaluation.open_run import EvaluatedRun
from bigpe.runtime.evaluation.selection import (
    CANDIDATES,
    Selection,
    rendered,
    select_best,
    shortlist,
    unmeasured,
)
from bigpe.runtime.formatting import first_line
from bigpe.runtime.project.professional import library_for
from bigpe.runtime.run.plan import professional_matches
from bigpe.services.core.errors import ConfigError, ScoreError
from bigpe.services.core.values import Instruction, ScoreRequest, derive_seed
from bigpe.services.prompt_data.splits import Split

TEST: Split = "test"
LOOK_EVERY = 4
"""Prompts that `--until-significant` measures between two tests."""
Reference = Literal["plain", "seeds", "professional"]
"""What an evaluation compares besides the naive prompts and the best instruction: the LLM without
an instruction, the seed instructions, professional prompts."""


class EvaluationSettings(NamedTuple):
    """Options of an evaluation."""

    instructions: tuple[Instruction, ...] = ()
    """Further instructions to compare."""
    prompts: int | None = None
    """Largest number of test prompts; None: all."""
    seeds: int = 1
    """Images per prompt."""
    seed: int = 0
    candidates: int = CANDIDATES
    """Instructions that are measured on validation prompts; 1: the best of the run, unmeasured."""
    validation: int | None = None
    """Largest number of validation prompts; None: all."""
    without: frozenset[Reference] = frozenset()
    """What is left out of the comparison."""
    until_significant: bool = False
    precision: float | None = None
    """Half-width of the interval, score units, at which `until_significant` also stops."""


class EvaluationProgress(NamedTuple):
    """Progress of a part of an evaluation."""

    doing: str
    done: int
    """Finished comparisons of this part."""
    of: int


OnProgress = Callable[[EvaluationProgress], None]


async def evaluate(
    run: EvaluatedRun, settings: EvaluationSettings, on_progress: OnProgress
) -> Evaluation:
    """Evaluate a run; store and return the report. ConfigError if a split is empty.

    `on_progress` is called after each comparison. All paid calls stay stored if it is cancelled.
    """
    notes: list[str] = []
    selection = await _select(run, settings, on_progress, notes)
    prompts = ordered_prompts(run, settings)
    sequence = None
    treatments = await all_treatments(run, settings, selection, prompts)
    if settings.until_significant:
        target = target_of(settings, selection)
        prompts, sequence = await _until_significant(run, settings, target, prompts, on_progress)
        treatments = [NAIVE, target]
    measured = [(t, await _measured(run, t, prompts, settings, on_progress)) for t in treatments]
    first = run.campaign.plan.instructions[0].instruction
    against = next((t for t in treatments if t.instruction == first), None)
    report = Evaluation(
        run=run.name,
        split=TEST,
        scorer=await run.services.score.open(),
        guard_scorers={name: await guard.open() for name, guard in run.services.guards.items()},
        seed=settings.seed,
        seeds=settings.seeds,
        prompts=len(prompts),
        selection=selection,
        compared=compare(
            measured,
            against=against,
            prices=run.campaign.plan.prices,
            seed=settings.seed,
            seen=await _seen(run, [row for _, rows in measured for row in rows]),
        ),
        lines=prompt_lines(measured),
        pool_diversity=pool_diversity(run.campaign.pool.living()),
        sequence=sequence,
        renders=len({image for _, rows in measured for image in rendered(rows)}),
        notes=tuple(notes),
    )
    await _store(run, measured, report)
    return report


async def _select(
    run: EvaluatedRun, settings: EvaluationSettings, on_progress: OnProgress, notes: list[str]
) -> Selection | None:
    candidates = shortlist(run.campaign.pool.rows(), settings.candidates)
    if not candidates:
        notes.append("the run has no result yet, so there is no best instruction to evaluate")
        return None
    veto = [guard.name for guard in run.config.score.guard if guard.veto]
    if settings.candidates == 1:
        selection = unmeasured(candidates[0])
        if veto:
            notes.append(
                f"the best instruction was not measured on validation prompts, so no guard could "
                f"refuse it ({', '.join(veto)}); evaluate with --candidates 2 or more to use guards"
            )
    else:
        selection = await _measured_selection(run, settings, candidates, veto, on_progress)
    notes += [
        f"{candidate.instruction.id[:8]} was refused: guard {', '.join(candidate.vetoed_by)} finds "
        f"it worse than the naive prompts: {candidate.instruction.text[:80]}"
        for candidate in selection.candidates
        if candidate.vetoed_by
    ]
    seeds = {seed.instruction.id: seed.name for seed in run.campaign.plan.instructions}
    if selection.chosen is not None and selection.chosen.id in seeds:
        notes.append(f"the best instruction is the seed {seeds[selection.chosen.id]!r}")
    if selection.chosen is None:
        notes.append("no instruction passed: use the naive prompts unchanged")
    return selection


async def _measured_selection(
    run: EvaluatedRun,
    settings: EvaluationSettings,
    candidates: Sequence[PoolRow],
    veto: Sequence[str],
    on_progress: OnProgress,
) -> Selection:
    prompts = validation_prompts(run, settings)
    total = len(candidates) * len(prompts) * settings.seeds
    return await select_best(
        run.services,
        candidates,
        prompts,
        seeds=settings.seeds,
        seed=settings.seed,
        veto=veto,
        on_row=_Counter("choosing on validation prompts", total, on_progress),
    )


def ordered_prompts(run: EvaluatedRun, settings: EvaluationSettings) -> list[str]:
    """Test prompts, ordered by hash so that the order of the file does not matter."""
    return _by_hash(run.prompts(TEST), settings)[: settings.prompts]


def validation_prompts(run: EvaluatedRun, settings: EvaluationSettings) -> list[str]:
    """The prompts of the selection: all in the order of the file, or the first ones by hash."""
    prompts = list(run.prompts("validation"))
    if settings.validation is None:
        return prompts
    return _by_hash(prompts, settings)[: settings.validation]


def _by_hash(prompts: Sequence[str], settings: EvaluationSettings) -> list[str]:
    return sorted(prompts, key=lambda p: derive_seed(settings.seed, "evaluation-order", p))


async def all_treatments(
    run: EvaluatedRun,
    settings: EvaluationSettings,
    selection: Selection | None,
    prompts: Sequence[str],
) -> list[Treatment]:
    """All distinct treatments, in the order of the table."""
    without = settings.without
    found = [NAIVE] if "plain" in without else [NAIVE, PLAIN]
    if "seeds" not in without:
        seeds = run.campaign.plan.instructions
        found += [under(seed.instruction, f"seed: {seed.name}") for seed in seeds]
    if run.config.data.professional and "professional" not in without:
        texts = await professional_matches(prompts, library_for(run.config, run.store))
        found.append(Treatment(name="professional prompts", kind="texts", texts=texts))
    if selection is not None and selection.chosen is not None:
        found.append(_best(selection.chosen))
    found += _given(settings)
    distinct: dict[str, Treatment] = {}
    for treatment in found:
        distinct.setdefault(treatment.id, treatment)
    return list(distinct.values())


def _best(chosen: Instruction) -> Treatment:
    return under(chosen, f"best: {chosen.id[:8]}")


def _given(settings: EvaluationSettings) -> list[Treatment]:
    return [
        under(given, f"given: {first_line(given.text)[:40]}") for given in settings.instructions
    ]


def target_of(settings: EvaluationSettings, selection: Selection | None) -> Treatment:
    """The treatment of `--until-significant`: the given instruction, else the best."""
    if settings.instructions:
        return _given(settings)[0]
    if selection is not None and selection.chosen is not None:
        return _best(selection.chosen)
    raise ConfigError("no instruction is left to test; give one with --instruction")


async def _until_significant(
    run: EvaluatedRun,
    settings: EvaluationSettings,
    target: Treatment,
    prompts: Sequence[str],
    on_progress: OnProgress,
) -> tuple[list[str], SequenceLine]:
    """Measure prompts until the sequence excludes 0, is narrow enough, or no prompt is left."""
    values: list[float] = []
    used: list[str] = []
    count = _Counter("until significant", len(prompts) * settings.seeds, on_progress)
    while len(used) < len(prompts):
        batch = prompts[len(used) : len(used) + LOOK_EVERY]
        rows = await measure(
            run.services, target, batch, seeds=settings.seeds, seed=settings.seed, on_row=count
        )
        gains = gains_by_prompt(rows)
        used += batch
        values += [mean(gains[prompt]) for prompt in batch if prompt in gains]
        if values and (why := _enough(sequence_state(values), settings)):
            return used, SequenceLine.of(sequence_state(values), why)
    why = f"all {len(used)} prompts are used; add naive prompts to continue"
    state = (
        sequence_state(values)
        if values
        else SequenceState(0, 0.0, float("-inf"), float("inf"), 1.0)
    )
    return used, SequenceLine.of(state, why)


def _enough(state: SequenceState, settings: EvaluationSettings) -> str | None:
    if state.n < FIRST_LOOK:
        return None
    if state.excludes_zero:
        return "the confidence sequence excludes 0"
    if settings.precision is not None and state.half_width <= settings.precision:
        return f"the half-width is at most {settings.precision:g}"
    return None


async def _measured(
    run: EvaluatedRun,
    treatment: Treatment,
    prompts: Sequence[str],
    settings: EvaluationSettings,
    on_progress: OnProgress,
) -> list[EvaluationRow]:
    count = _Counter(treatment.name, len(prompts) * settings.seeds, on_progress)
    return await measure(
        run.services,
        treatment,
        prompts,
        seeds=settings.seeds,
        seed=settings.seed,
        others=run.prompts(TEST),
        on_row=count,
    )


async def _seen(run: EvaluatedRun, rows: Sequence[EvaluationRow]) -> dict[str, list[float]]:
    """Image features by digest; empty if no scorer computes them."""
    services = run.services
    scorer = next((s for s in (services.score, *services.guards.values()) if s.sees), None)
    if scorer is None:
        return {}
    wanted = {image: row.prompt for row in rows for image in (row.image, row.naive_image) if image}
    results = await asyncio.gather(
        *(scorer.features(ScoreRequest(image=i, prompt=p)) for i, p in wanted.items()),
        return_exceptions=True,
    )
    found: dict[str, list[float]] = {}
    for image, features in zip(wanted, results, strict=True):
        if isinstance(features, list):
            found[image] = features
        elif not isinstance(features, ScoreError):
            raise features
    return found


async def _store(
    run: EvaluatedRun,
    measured: Sequence[tuple[Treatment, Sequence[EvaluationRow]]],
    report: Evaluation,
) -> None:
    now = time.time()
    common = {"run": run.name, "split": TEST, "ts": now}
    rows = [
        (
            "put_evaluation",
            {
                **common,
                "treatment": treatment.id,
                "name": treatment.name,
                "prompt": row.prompt,
                "seed": row.seed,
                "naive_score": row.naive_score,
                "score": row.score,
                "body": row.model_dump_json(),
            },
        )
        for treatment, done in measured
        for row in done
    ]
    await run.store.write(
        [*rows, ("put_evaluation_report", {**common, "body": report.model_dump_json()})]
    )


class _Counter:
    """Counts the finished comparisons of a part and reports them."""

    def __init__(self, doing: str, of: int, on_progress: OnProgress) -> None:
        self._progress = EvaluationProgress(doing, 0, of)
        self._on_progress = on_progress
        on_progress(self._progress)

    def __call__(self, row: EvaluationRow) -> None:
        self._progress = self._progress._replace(done=self._progress.done + 1)
        self._on_progress(self._progress)
