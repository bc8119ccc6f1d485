"""Statistics of an evaluation: each treatment against the naive prompts and a seed instruction.

They are computed from measured rows. Gains are in score units, gains by a guard in its units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bigpe.agents.diagnostics.text_diversity import rewrite_diversity, spread
from bigpe.agents.messages.usage import Prices, Usage, of_role
from bigpe.agents.statistics.confidence_sequence import SequenceState
from bigpe.agents.statistics.intervals import paired_summary
from bigpe.agents.statistics.moments import mean
from bigpe.agents.statistics.significance import holm
from bigpe.runtime.evaluation.measure import EvaluationRow, Treatment, gains_by_prompt, guard_gains
from bigpe.runtime.evaluation.selection import Selection, rendered
from bigpe.services.core.values import LlmUsage, Value
from bigpe.services.prompt_data.splits import Split


class Difference(Value):
    """Paired differences over prompts; see `bigpe.agents.statistics.intervals.PairedSummary`."""

    n: int
    mean: float
    sd: float | None
    lo: float | None
    hi: float | None
    p: float | None
    win_rate: float
    p_holm: float | None = None
    """p value after Holm's correction over all comparisons of this kind in the report."""


class TreatmentComparison(Value):
    """Results of a treatment on the held-out prompts. Shares are in 0..1."""

    treatment: Treatment
    score: float | None
    """Mean score over prompts; None without results."""
    gain: Difference | None
    """Difference to the naive prompts; None without results and for the naive prompts."""
    over_seed: Difference | None
    """Difference to the first seed instruction, on prompts with results of both."""
    guards: dict[str, Difference]
    """Gains by guard."""
    hacked: tuple[str, ...]
    """Guards with a significant loss where the scorer has a significant gain."""
    missing: int
    """Comparisons without a result, because of a failure or a missing text."""
    failures: tuple[str, ...]
    """Distinct causes of missing comparisons, at most five."""
    fallback_share: float
    """Share of comparisons whose rewrite could not be used."""
    truncated_share: float
    """Share of rendered texts that were too long for the renderer."""
    subject_share: float
    """Share of rendered texts that name the naive prompt's subject."""
    shown_share: float | None = None
    """Share of images that suit their own naive prompt better than other prompts, by a scorer."""
    naive_shown_share: float | None = None
    """`shown_share` of the naive prompts' images."""
    shown_change: Difference | None = None
    """Difference of the two shares."""
    words: float
    """Mean length of the rendered texts, words."""
    diversity: float | None
    """Mean distance of the words that rewrites add, in [0, 1]."""
    picture_diversity: float | None = None
    """Mean distance of the images, divided by that of the naive images; below 1: more alike."""
    usage: Usage
    """Usage without a call cache: for the own images and those of the naive prompts."""
    usd: float
    """Cost of the usage, by the run's prices."""

    @property
    def strays(self) -> bool:
        """Whether `shown_share` is significantly lower than that of the naive images."""
        change = self.shown_change
        return change is not None and change.hi is not None and change.hi < 0


class PromptLine(Value):
    """A naive prompt with its mean gain by treatment id."""

    prompt: str
    naive_score: float | None
    gains: dict[str, float | None]


class SequenceLine(Value):
    """The last state of the confidence sequence of `--until-significant`."""

    n: int
    mean: float
    lo: float | None
    hi: float | None
    """None while there is no bound."""
    sign_e: float
    too_skewed: bool = False
    """Whether the values are too skewed for the nominal coverage of the sequence."""
    stopped: str
    """The reason why no further prompt was measured."""

    @classmethod
    def of(cls, state: SequenceState, stopped: str) -> SequenceLine:
        """Convert to a value that can be stored. JSON has no infinity, so it becomes None."""
        lo, hi = (bound if abs(bound) < float("inf") else None for bound in (state.lo, state.hi))
        return cls(
            n=state.n,
            mean=state.mean,
            lo=lo,
            hi=hi,
            sign_e=state.sign_e,
            too_skewed=state.too_skewed,
            stopped=stopped,
        )


class Evaluation(Value):
    """The report of `bigpe evaluate`."""

    run: str
    split: Split
    scorer: str
    """Fingerprint of the scorer."""
    guard_scorers: dict[str, str]
    seed: int
    seeds: int
    prompts: int
    selection: Selection | None
    """None if the run has no instruction with a result."""
    compared: tuple[TreatmentComparison, ...]
    lines: tuple[PromptLine, ...]
    pool_diversity: float | None
    """Mean distance of the active instructions, in [0, 1]."""
    sequence: SequenceLine | None = None
    renders: int
    """Distinct images of this evaluation, without those of the selection."""
    notes: tuple[str, ...] = ()


def compare(
    measured: Sequence[tuple[Treatment, Sequence[EvaluationRow]]],
    *,
    against: Treatment | None,
    prices: Prices,
    seed: int = 0,
    seen: Mapping[str, Sequence[float]] | None = None,
) -> tuple[TreatmentComparison, ...]:
    """Compute the statistics of each treatment.

    p values are adjusted by Holm over all treatments. Comparisons with the naive prompts are one
    family, comparisons with the seed instruction are another.

    Args:
        measured: the treatments with their rows.
        against: the seed instruction that the other treatments are compared with.
        prices: prices of the usage.
        seed: seed of the bootstrap.
        seen: image features by digest, as vectors of length 1.
    """
    by_id = {treatment.id: rows for treatment, rows in measured}
    base = gains_by_prompt(by_id[against.id]) if against is not None else {}
    found: list[TreatmentComparison] = []
    for treatment, rows in measured:
        over = None
        if against is not None and treatment.id != against.id and treatment.kind != "naive":
            over = _difference(_subtract(gains_by_prompt(rows), base), seed)
        result = _compared(treatment, rows, over, prices, seed)
        diversity = picture_diversity(rows, seen or {}) if treatment.kind != "naive" else None
        found.append(result.model_copy(update={"picture_diversity": diversity}))
    gains = _adjusted([result.gain for result in found])
    overs = _adjusted([result.over_seed for result in found])
    return tuple(
        result.model_copy(update={"gain": gain, "over_seed": over})
        for result, gain, over in zip(found, gains, overs, strict=True)
    )


def prompt_lines(
    measured: Sequence[tuple[Treatment, Sequence[EvaluationRow]]],
) -> tuple[PromptLine, ...]:
    """The table by prompt, in the order of measurement."""
    gains = {treatment.id: gains_by_prompt(rows) for treatment, rows in measured}
    naive: dict[str, list[float]] = {}
    for _, rows in measured:
        for row in rows:
            scores = naive.setdefault(row.prompt, [])
            if row.naive_score is not None:
                scores.append(row.naive_score)
    return tuple(
        PromptLine(
            prompt=prompt,
            naive_score=mean(scores) if scores else None,
            gains={
                id: mean(found[prompt]) if prompt in found else None for id, found in gains.items()
            },
        )
        for prompt, scores in naive.items()
    )


def _compared(
    treatment: Treatment,
    rows: Sequence[EvaluationRow],
    over_seed: Difference | None,
    prices: Prices,
    seed: int,
) -> TreatmentComparison:
    done = [row for row in rows if row.gain is not None]
    scores = [row.score for row in done if row.score is not None]
    gain = None if treatment.kind == "naive" else _difference(gains_by_prompt(rows), seed)
    guards = {
        name: found
        for name, groups in guard_gains(rows).items()
        if treatment.kind != "naive" and (found := _difference(groups, seed)) is not None
    }
    calls = sum((row.usage for row in rows), LlmUsage())
    images = rendered(rows)
    checks = {(text, row.seed): row.held_against for row in done for text in (row.prompt, row.text)}
    scored = len(images) + sum(checks.values())
    usage = of_role("generator", calls) + Usage(renders=len(images), scores=scored)
    return TreatmentComparison(
        treatment=treatment,
        score=mean(scores) if scores else None,
        gain=gain,
        over_seed=over_seed,
        guards=guards,
        hacked=tuple(name for name, guard in guards.items() if _hacked(gain, guard)),
        missing=len(rows) - len(done),
        failures=tuple(dict.fromkeys(row.failure for row in rows if row.failure))[:5],
        fallback_share=_share(row.fallback is not None for row in done),
        truncated_share=_share(row.truncated > 0 for row in done),
        subject_share=_share(row.subject_kept for row in done),
        **_prompt_shown(treatment, done, seed),
        words=mean([float(row.words) for row in done]) if done else 0.0,
        diversity=rewrite_diversity((row.prompt, row.text) for row in done),
        usage=usage,
        usd=prices.usd(usage),
    )


def _prompt_shown(treatment: Treatment, done: Sequence[EvaluationRow], seed: int) -> dict[str, Any]:
    """Shares of images that show their prompt; empty if no row was checked."""
    checked = [row for row in done if row.rewrite_shown is not None]
    if not checked:
        return {}
    changes: dict[str, list[float]] = {}
    for row in checked:
        change = float(bool(row.rewrite_shown)) - bool(row.naive_shown)
        changes.setdefault(row.prompt, []).append(change)
    return {
        "shown_share": _share(bool(row.rewrite_shown) for row in checked),
        "naive_shown_share": _share(bool(row.naive_shown) for row in checked),
        "shown_change": None if treatment.kind == "naive" else _difference(changes, seed),
    }


def picture_diversity(
    rows: Sequence[EvaluationRow], seen: Mapping[str, Sequence[float]]
) -> float | None:
    """Mean distance of the images, divided by that of the naive images."""
    present = [row for row in rows if row.image in seen and row.naive_image in seen]
    own = spread([seen[row.image] for row in present])
    naive = spread([seen[row.naive_image] for row in present])
    return own / naive if own is not None and naive else None


def _hacked(gain: Difference | None, guard: Difference) -> bool:
    """Whether the scorer has a significant gain and the guard a significant loss."""
    if gain is None or gain.lo is None or guard.hi is None:
        return False
    return gain.lo > 0 and guard.hi < 0


def _subtract(
    after: Mapping[str, Sequence[float]], before: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Differences of the means over seeds, for prompts with both."""
    return {
        prompt: [mean(values) - mean(before[prompt])]
        for prompt, values in after.items()
        if prompt in before
    }


def _difference(groups: Mapping[str, Sequence[float]], seed: int) -> Difference | None:
    if not groups:
        return None
    return Difference.model_validate(paired_summary(groups, seed=seed), from_attributes=True)


def _adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    corrected = iter(holm([d.p for d in differences if d is not None and d.p is not None]))
    return [
        d.model_copy(update={"p_holm": next(corrected)}) if d is not None and d.p is not None else d
        for d in differences
    ]


def _share(flags: Iterable[bool]) -> float:
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 0.0
