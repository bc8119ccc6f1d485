"""Diagnosis of a run from its history: faults with evidence and a remedy.

Each fault has a statistic and a limit. In nine of ten runs, a change of one standard deviation
exceeds the limit within 30 rounds; the limits are as high as this allows. At most one in twenty
healthy runs of 100 rounds raises any fault. scripts/simulations/simulate_diagnostics.py measures
both. Faults are hints, not verdicts: their evidence names other possible causes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigpe.agents.statistics import change_detection
from bigpe.agents.statistics.moments import mean, pooled_squares
from bigpe.services.core.values import Value

Fault = Literal[
    "stagnation",
    "degradation",
    "high variance",
    "truncation",
    "diversity",
    "failures",
    "no proposals",
]


STALE_ROUNDS = 30
"""Rounds without a better best. A search that improves in every fifth round rarely waits longer."""
NOVELTY_LIMIT, NOVELTY_DRIFT = 16.9, 0.25
EARLY_ROUNDS, EARLY_FACTOR = 60, 1.4
"""In the first 60 rounds those two limits are multiplied by 1.4: the usual level is estimated from
the run itself, and few rounds estimate it badly."""
ARM_DRIFT, ARM_LIMIT = 0.5, 11.5
SPREAD_DRIFT, SPREAD_LIMIT = 0.5, 12.0
USUAL_CUT, RAISED_CUT, CUT_LIMIT = 0.05, 0.08, 4.08
"""Usual and raised share of rewrites beyond the renderer's limit, and the log-likelihood ratio that
separates them."""
USUAL_FAILURES, RAISED_FAILURES, FAILURE_LIMIT = 0.10, 0.18, 6.45
NOVELTY_FLOOR = 0.05
"""Smallest assumed standard deviation of novelty."""
NEAR_COPIES = 0.1
"""Pool diversity below which the instructions count as copies."""
WINDOW = 1000
"""Number of newest rounds that are examined. All rounds of a long run would cost more time than a
round."""
DOMINANT_NOISE = 3.0
"""Ratio of a pull's noise to the best mean gain beyond which a single pull is uninformative."""
FEWEST_PULLS = 12
WITHOUT_PROPOSAL = 5
"""Rounds without a proposal that are reported."""


class RoundDiagnostics(NamedTuple):
    """The values of one settled round that the diagnosis uses."""

    round: int
    arm: str
    gains: tuple[float, ...]
    """The gains of the pull, score units."""
    missing: int = 0
    """Comparisons lost to failing services."""
    fallbacks: int = 0
    """Rewrites that could not be used."""
    truncated: int = 0
    """Rewrites longer than the renderer reads."""
    novelty: float | None = None
    """Mean distance of the proposals to the nearest instruction before them, in [0, 1]."""
    diversity: float | None = None
    """Mean distance of the living instructions, in [0, 1]."""
    stale: int = 0
    """Rounds since the best instruction's lower bound rose."""
    wants_proposal: bool = False
    """Whether the round asked for gradients and proposals."""
    proposals: int = 0
    causes: tuple[str, ...] = ()
    """Causes of failed steps and fallbacks."""


class RunFinding(Value):
    """A fault at the end of the history."""

    fault: Fault
    since: int
    """The estimated first round of the fault."""
    evidence: str
    remedy: str

    @property
    def line(self) -> str:
        """The finding as one line of text."""
        return f"{self.fault} since round {self.since}: {self.evidence}; {self.remedy}"


def diagnose(history: Sequence[RoundDiagnostics]) -> list[RunFinding]:
    """The current faults in a fixed order; empty for an empty history."""
    looks: tuple[Callable[[Sequence[RoundDiagnostics]], RunFinding | None], ...] = (
        failures,
        no_proposals,
        truncation,
        degradation,
        high_variance,
        diversity,
        stagnation,
    )
    recent = history[-WINDOW:]
    return [finding for look in looks if recent and (finding := look(recent))]


def no_proposals(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """No round that asked for a proposal has got one."""
    wanted = [facts for facts in history if facts.wants_proposal]
    if len(wanted) < WITHOUT_PROPOSAL or any(facts.proposals for facts in wanted):
        return None
    causes = [cause for facts in wanted for cause in facts.causes]
    return RunFinding(
        fault="no proposals",
        since=wanted[0].round,
        evidence=f"none of {len(wanted)} rounds that asked for an instruction got one"
        + (f", the last cause: {causes[-1]}" if causes else ""),
        remedy="`bigpe inspect --type InstructionsProposed` and `--type StepFailed` say why; a "
        "model that answers in JSON for [llm.gradient] and [llm.modifier] may help",
    )


def stagnation(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """The best lower bound has not risen for `STALE_ROUNDS` rounds."""
    last = history[-1]
    factor = EARLY_FACTOR if last.round <= EARLY_ROUNDS else 1.0
    if last.stale < STALE_ROUNDS * factor:
        return None
    return RunFinding(
        fault="stagnation",
        since=max(1, last.round - last.stale),
        evidence=f"no better lower bound of the best instruction for {last.stale} rounds",
        remedy="stop here and evaluate it, or bring new ideas: more professional prompts, "
        "another [llm.modifier], a larger [run] pool_size",
    )


def degradation(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """Instructions gain less than the same instructions did before."""
    steps = degradation_steps(*_pulls(history))
    if change_detection.cusum(steps)[0, -1] < ARM_LIMIT:
        return None
    start = change_detection.change_at(steps)
    falls = _falls(history, start)
    fall = mean(falls) if falls else 0.0
    return RunFinding(
        fault="degradation",
        since=history[start].round,
        evidence=f"the same instructions gain {100 * fall:+.2f} (score x 100) against before",
        remedy="see whether renderer, language model or scorer were changed or are overloaded; "
        "if not, the prompts of late rounds are harder, or early gains were luck",
    )


def high_variance(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """Gains scatter more than before, or too much for a single pull."""
    squares, df = _within(history)
    steps = variance_steps(squares, df)
    start, evidence = 0, ""
    spread = _pooled(history)
    if change_detection.cusum(steps)[0, -1] >= SPREAD_LIMIT:
        start = change_detection.change_at(steps)
        spread, before = _pooled(history[start:]), _pooled(history[:start])
        evidence = (
            f"gains within a batch deviate by {100 * spread:.2f}, before by {100 * before:.2f}"
        )
    effect = _best_mean(history)
    batch = mean([len(facts.gains) for facts in history if facts.gains] or [1])
    if not evidence and effect is not None and spread > DOMINANT_NOISE * effect * math.sqrt(batch):
        evidence = (
            f"a pull's mean deviates by {100 * spread / math.sqrt(batch):.2f}, the best "
            f"instruction gains {100 * effect:.2f}"
        )
    if not evidence:
        return None
    return RunFinding(
        fault="high variance",
        since=history[start].round,
        evidence=f"{evidence} (score x 100)",
        remedy=_batch_remedy(spread, effect),
    )


def truncation(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """The renderer cuts off a growing share of the rewrites."""
    cut = [facts.truncated for facts in history]
    trials = [len(facts.gains) + facts.missing for facts in history]
    steps = change_detection.share_steps(_row(cut), _row(trials), USUAL_CUT, RAISED_CUT)
    if change_detection.newest_sums(steps)[0, -1] < CUT_LIMIT:
        return None
    start = change_detection.change_at(steps)
    share = sum(cut[start:]) / max(sum(trials[start:]), 1)
    return RunFinding(
        fault="truncation",
        since=history[start].round,
        evidence=f"{share:.0%} of the rewrites are longer than the renderer reads",
        remedy="ask for shorter rewrites in the seed instructions, lower max_tokens of "
        "[llm.generator], or take a renderer with a longer text encoder",
    )


def diversity(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """Proposals repeat earlier instructions, or the living instructions are near copies."""
    pool = [facts.diversity for facts in history]
    row = _row([math.nan if f.novelty is None else f.novelty for f in history])
    steps = novelty_steps(row)
    start = len(history)
    evidence = ""
    limit = NOVELTY_LIMIT * early_factors(len(history))[-1]
    if change_detection.newest_sums(steps)[0, -1] >= limit:
        start = change_detection.change_at(steps - NOVELTY_DRIFT)
        late = [f.novelty for f in history[start:] if f.novelty is not None]
        evidence = f"new instructions differ by {mean(late):.2f} from the nearest earlier one"
    copies = next((i for i in range(len(pool)) if all(_is_copy(d) for d in pool[i:])), len(pool))
    if len(pool) - copies >= FEWEST_PULLS:
        start, evidence = copies, f"the living instructions differ by {pool[-1]:.2f} on average"
    if not evidence:
        return None
    return RunFinding(
        fault="diversity",
        since=history[start].round,
        evidence=f"{evidence} (0 to 1)",
        remedy="import other professional prompts, give [llm.modifier] a stronger model, or "
        "choose a policy that explores more",
    )


def failures(history: Sequence[RoundDiagnostics]) -> RunFinding | None:
    """A growing share of comparisons is lost, or falls back to the naive prompt."""
    failed = [facts.missing + facts.fallbacks for facts in history]
    trials = [len(facts.gains) + facts.missing for facts in history]
    steps = change_detection.share_steps(
        _row(failed), _row(trials), USUAL_FAILURES, RAISED_FAILURES
    )
    if change_detection.newest_sums(steps)[0, -1] < FAILURE_LIMIT:
        return None
    start = change_detection.change_at(steps)
    late = history[start:]
    lost, kept = sum(f.missing for f in late), sum(f.fallbacks for f in late)
    cause = Counter(cause for facts in late for cause in facts.causes).most_common(1)
    often = f", most often: {cause[0][0]}" if cause else ""
    return RunFinding(
        fault="failures",
        since=history[start].round,
        evidence=f"of {sum(trials[start:])} comparisons {lost} were lost and {kept} fell back to "
        f"the naive prompt{often}",
        remedy="`bigpe inspect --type StepFailed` shows the service's error; for fallbacks, a "
        "stronger [llm.generator] or instructions with exemplars",
    )


# -- the statistics, many histories at once ---------------------------------------------------


def degradation_steps(
    means: NDArray[np.float64],
    squares: NDArray[np.float64],
    arms: NDArray[np.int_],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Decreases of gains within arms, as steps of a cumulative sum."""
    return -change_detection.arm_scores(means, squares, arms, counts) - ARM_DRIFT


def variance_steps(squares: NDArray[np.float64], df: NDArray[np.float64]) -> NDArray[np.float64]:
    """Increases of the variance within batches, as steps of a cumulative sum."""
    return change_detection.spread_scores(squares, df) - SPREAD_DRIFT


def novelty_steps(novelty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decreases of novelty, as steps of sums of the newest rounds."""
    return -change_detection.level_scores(novelty, floor=NOVELTY_FLOOR)


def early_factors(rounds: int) -> NDArray[np.float64]:
    """Factors of the limits on the run's own level, one for each of `rounds` rounds."""
    return np.where(np.arange(rounds) < EARLY_ROUNDS, EARLY_FACTOR, 1.0)


# -- parts ------------------------------------------------------------------------------------


def _row(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array([values], dtype=np.float64)


def _pulls(
    history: Sequence[RoundDiagnostics],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int_], NDArray[np.float64]]:
    numbers = {arm: i for i, arm in enumerate(dict.fromkeys(facts.arm for facts in history))}
    return (
        _row([mean(facts.gains) if facts.gains else 0.0 for facts in history]),
        _within(history)[0],
        np.array([[numbers[facts.arm] for facts in history]]),
        _row([len(facts.gains) for facts in history]),
    )


def _within(history: Sequence[RoundDiagnostics]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    squares = [pooled_squares([facts.gains]) for facts in history]
    return _row([item.total for item in squares]), _row([item.df for item in squares])


def _pooled(history: Sequence[RoundDiagnostics]) -> float:
    """Standard deviation of a gain within a batch, score units."""
    return math.sqrt(pooled_squares(facts.gains for facts in history).variance or 0.0)


def _falls(history: Sequence[RoundDiagnostics], start: int) -> list[float]:
    """For each pull from `start` on: its mean gain minus that of the arm's earlier pulls."""
    before: dict[str, list[float]] = {}
    for facts in history[:start]:
        before.setdefault(facts.arm, []).extend(facts.gains)
    return [
        mean(facts.gains) - mean(before[facts.arm])
        for facts in history[start:]
        if facts.gains and before.get(facts.arm)
    ]


def _best_mean(history: Sequence[RoundDiagnostics]) -> float | None:
    """The largest positive mean gain of an arm with two pulls; None if there is none."""
    if len(history) < FEWEST_PULLS:
        return None
    by_arm: dict[str, list[tuple[float, ...]]] = {}
    for facts in history:
        if facts.gains:
            by_arm.setdefault(facts.arm, []).append(facts.gains)
    means = [
        mean([gain for pull in pulls for gain in pull])
        for pulls in by_arm.values()
        if len(pulls) > 1
    ]
    best = max(means, default=0.0)
    return best if best > 0 else None


def _is_copy(distance: float | None) -> bool:
    return distance is not None and distance < NEAR_COPIES


def _batch_remedy(spread: float, effect: float | None) -> str:
    if effect is None or effect <= 0:
        return "raise [run] batch_size or seeds_per_prompt"
    # A power of 80% at the 5% level needs 1.96 + 0.84 standard errors.
    size = math.ceil((2.8 * spread / effect) ** 2)
    return f"a [run] batch_size of {size} would detect such a gain in one pull"
