"""What an evaluation says: each treatment against the naive prompts and a seed instruction.

From rows to values; nothing is measured here. Gains are in score units, a guard's in its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bigpe.agents.diagnostics.text_diversity import rewrite_diversity, spread
from bigpe.agents.messages.usage import Prices, Usage, of_role
from bigpe.agents.statistics.confidence_sequence import SequenceState
from bigpe.agents.statistics.intervals import PairedSummary, paired_summary
from bigpe.agents.statistics.moments import mean
from bigpe.agents.statistics.significance import holm
from bigpe.runtime.evaluation.measure import EvaluationRow, Treatment, gains_by_prompt, guard_gains
from bigpe.runtime.evaluation.selection import Selection, painted
from bigpe.services.core.values import LlmUsage, Value
from bigpe.services.prompt_data.splits import Split


class Difference(Value):
    """Paired differences over prompts; see `agents.intervals.PairedSummary`."""

    n: int
    mean: float
    sd: float | None
    lo: float | None
    hi: float | None
    p: float | None
    win_rate: float
    p_holm: float | None = None
    """p, adjusted for all comparisons of the report that are of this kind."""

    @classmethod
    def of(cls, summary: PairedSummary) -> Difference:
        """The same, as a value that can be stored."""
        return cls(
            n=summary.n,
            mean=summary.mean,
            sd=summary.sd,
            lo=summary.lo,
            hi=summary.hi,
            p=summary.p,
            win_rate=summary.win_rate,
        )


class TreatmentComparison(Value):
    """One treatment on the held-out prompts."""

    treatment: Treatment
    score: float | None
    """Mean score over prompts; None without any result."""
    gain: Difference | None
    """Against the naive prompts; None without any result, and for those themselves."""
    over_seed: Difference | None
    """Against the first seed instruction, on prompts that have both."""
    guards: dict[str, Difference]
    """Gains by each guard."""
    hacked: tuple[str, ...]
    """Guards that see a loss beyond chance where the scorer sees a gain beyond chance."""
    missing: int
    """Comparisons lost to failures, or without a text."""
    failures: tuple[str, ...]
    """Their distinct causes, at most five."""
    fallback_share: float
    """Of comparisons: the rewrite could not be used."""
    truncated_share: float
    """Of what was painted: longer than the renderer reads."""
    subject_share: float
    """Of what was painted: names the naive prompt's subject still."""
    shown_share: float | None = None
    """Of its pictures: suit their own naive prompt better than other prompts, by a scorer."""
    naive_shown_share: float | None = None
    """The same of the naive prompts' pictures."""
    shown_change: Difference | None = None
    """How much more often its pictures do so, as a share."""
    words: float
    """Mean length of what was painted."""
    diversity: float | None
    """Mean distance of what the rewrites add, in [0, 1]."""
    picture_diversity: float | None = None
    """Mean distance of its pictures by that of the naive ones: below 1 they have become alike."""
    usage: Usage
    """What it took, were nothing shared: its own pictures, and those of the naive prompts."""
    usd: float
    """The same, by the run's prices."""

    @property
    def strays(self) -> bool:
        """Whether its pictures show what was asked less often than naive ones, beyond chance."""
        change = self.shown_change
        return change is not None and change.hi is not None and change.hi < 0


class PromptLine(Value):
    """A naive prompt's mean gain under each treatment, by treatment id."""

    prompt: str
    naive_score: float | None
    gains: dict[str, float | None]


class SequenceLine(Value):
    """The confidence sequence of `--until-significant`, where it stopped."""

    n: int
    mean: float
    lo: float | None
    hi: float | None
    """None: not bounded yet."""
    sign_e: float
    too_skewed: bool = False
    """Whether so few values carry the mean that the sequence may hold less often than it says."""
    stopped: str
    """Why no further prompt was asked for."""

    @classmethod
    def of(cls, state: SequenceState, stopped: str) -> SequenceLine:
        """The same, as a value that can be stored: JSON knows no infinity."""
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
    """Everything that `bigpe evaluate` found."""

    run: str
    split: Split
    scorer: str
    """Fingerprint."""
    guard_scorers: dict[str, str]
    seed: int
    seeds: int
    prompts: int
    selection: Selection | None
    """None: there was nothing to choose from."""
    compared: tuple[TreatmentComparison, ...]
    lines: tuple[PromptLine, ...]
    pool_diversity: float | None
    """Mean distance of the living instructions, in [0, 1]."""
    sequence: SequenceLine | None = None
    renders: int
    """Different pictures of this evaluation, those of the selection not included."""
    notes: tuple[str, ...] = ()


def compare(
    measured: Sequence[tuple[Treatment, Sequence[EvaluationRow]]],
    *,
    against: Treatment | None,
    prices: Prices,
    seed: int = 0,
    seen: Mapping[str, Sequence[float]] | None = None,
) -> tuple[TreatmentComparison, ...]:
    """Each treatment's figures; `against`: the seed instruction that the others are held to.

    `seen`: what a scorer sees in pictures, by digest, as vectors of length 1.

    p values are adjusted by Holm over all treatments, those against naive and those against the
    seed each as one family.
    """
    by_id = {treatment.id: rows for treatment, rows in measured}
    base = gains_by_prompt(by_id[against.id]) if against is not None else {}
    found: list[TreatmentComparison] = []
    for treatment, rows in measured:
        over = None
        if against is not None and treatment.id != against.id and treatment.kind != "naive":
            over = _difference(_subtract(gains_by_prompt(rows), base), seed)
        one = _compared(treatment, rows, over, prices, seed)
        alike = picture_diversity(rows, seen or {}) if treatment.kind != "naive" else None
        found.append(one.model_copy(update={"picture_diversity": alike}))
    gains = _adjusted([one.gain for one in found])
    overs = _adjusted([one.over_seed for one in found])
    return tuple(
        one.model_copy(update={"gain": gain, "over_seed": over})
        for one, gain, over in zip(found, gains, overs, strict=True)
    )


def prompt_lines(
    measured: Sequence[tuple[Treatment, Sequence[EvaluationRow]]],
) -> tuple[PromptLine, ...]:
    """The per-prompt table, prompts in the order measured."""
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
    pictures = painted(rows)
    looks = {(text, row.seed): row.held_against for row in done for text in (row.prompt, row.text)}
    judged = len(pictures) + sum(looks.values())
    usage = of_role("generator", calls) + Usage(renders=len(pictures), scores=judged)
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
        **_shown(treatment, done, seed),
        words=mean([float(row.words) for row in done]) if done else 0.0,
        diversity=rewrite_diversity((row.prompt, row.text) for row in done),
        usage=usage,
        usd=prices.usd(usage),
    )


def _shown(treatment: Treatment, done: Sequence[EvaluationRow], seed: int) -> dict[str, Any]:
    """Whether pictures still show what was asked, where that was looked at."""
    looked = [row for row in done if row.shown is not None]
    if not looked:
        return {}
    changes: dict[str, list[float]] = {}
    for row in looked:
        changes.setdefault(row.prompt, []).append(float(bool(row.shown)) - bool(row.naive_shown))
    return {
        "shown_share": _share(bool(row.shown) for row in looked),
        "naive_shown_share": _share(bool(row.naive_shown) for row in looked),
        "shown_change": None if treatment.kind == "naive" else _difference(changes, seed),
    }


def picture_diversity(
    rows: Sequence[EvaluationRow], seen: Mapping[str, Sequence[float]]
) -> float | None:
    """How different the pictures are from one another, by how different the naive ones are."""
    known = [row for row in rows if row.image in seen and row.naive_image in seen]
    own = spread([seen[row.image] for row in known])
    naive = spread([seen[row.naive_image] for row in known])
    return own / naive if own is not None and naive else None


def _hacked(gain: Difference | None, guard: Difference) -> bool:
    """A gain beyond chance for the scorer that is a loss beyond chance for the guard."""
    if gain is None or gain.lo is None or guard.hi is None:
        return False
    return gain.lo > 0 and guard.hi < 0


def _subtract(
    after: Mapping[str, Sequence[float]], before: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Differences of the means over seeds, of prompts that have both."""
    return {
        prompt: [mean(values) - mean(before[prompt])]
        for prompt, values in after.items()
        if prompt in before
    }


def _difference(groups: Mapping[str, Sequence[float]], seed: int) -> Difference | None:
    return Difference.of(paired_summary(groups, seed=seed)) if groups else None


def _adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    known = [one.p for one in differences if one is not None and one.p is not None]
    left = iter(holm(known))
    return [
        one.model_copy(update={"p_holm": next(left)})
        if one is not None and one.p is not None
        else one
        for one in differences
    ]


def _share(flags: Iterable[bool]) -> float:
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 0.0
