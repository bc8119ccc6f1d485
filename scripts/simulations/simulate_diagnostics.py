"""How often diagnostics cry wolf, and how soon they notice, by simulation.

    python scripts simulations.simulate_diagnostics > docs/figures/diagnostics.jsonl
    python scripts simulations.simulate_diagnostics --quick

Healthy histories: 100 rounds of 5 gains, instructions of different worth admitted as the pool
admits them and pulled by ucb1, truncated rewrites and failures at the shares taken for usual, a
better best in every fifth round. A fault begins at round
51 and is one standard deviation: gains fall by the deviation of one gain, their scatter doubles,
novelty falls by its own deviation, a share rises by the deviation of a batch's share, and progress
stops. `noticed` counts, of the runs that were silent until then, those that raise it in 30 rounds.
`false_alarms/any` are healthy runs of which `diagnose` itself, asked after every round, ever says
anything at all: one history for all faults together.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any, NamedTuple

import numpy as np
from benchmarks.figures import say
from numpy.typing import NDArray
from scipy.stats import binomtest

from bigpe.agents.diagnostics import faults as d
from bigpe.agents.statistics import change_detection

ROUNDS, BATCH, AT, WITHIN = 100, 5, 50, 30
SPREAD_OF_ARMS = 0.7
"""Deviation of the instructions' worth, in deviations of a pull's mean."""
WORTH = 1.0
"""Mean worth of the instructions, likewise: a healthy run finds something."""
PROGRESS = 0.2
"""Share of rounds in which a healthy run finds a better best."""
Array = NDArray[Any]


def stale_rounds(bounds: Array) -> Array:
    """Rounds since the running maximum last rose: (runs, n) to (runs, n)."""
    best = np.maximum.accumulate(bounds, axis=1)
    rose = np.concatenate([np.ones_like(best[:, :1], bool), best[:, 1:] > best[:, :-1]], axis=1)
    index = np.arange(bounds.shape[1])
    return index - np.maximum.accumulate(np.where(rose, index, 0), axis=1)


class Bandit(NamedTuple):
    """Pulls of many runs."""

    arms: Array
    """(runs, ROUNDS)"""
    gains: Array
    """(runs, ROUNDS, BATCH)"""

    @property
    def means(self) -> Array:
        """Of the pulls, (runs, ROUNDS)."""
        return self.gains.mean(axis=2)

    @property
    def squares(self) -> Array:
        """Squared deviations from a pull's mean, summed, (runs, ROUNDS)."""
        return ((self.gains - self.means[:, :, None]) ** 2).sum(axis=2)


def bandit(rng: np.random.Generator, runs: int, *, fall: float = 0.0, scale: float = 1.0) -> Bandit:
    """Runs of ucb1 on a pool of four; from `AT` on gains fall by `fall` and scatter by `scale`.

    Gains have deviation sqrt(BATCH), so that a pull's mean has deviation 1.
    """
    places = 2 * math.ceil(math.sqrt(ROUNDS + 1)) + 4
    worth = rng.normal(WORTH, SPREAD_OF_ARMS, (runs, places))
    totals, pulls = np.zeros((2, runs, places))
    alive = np.zeros((runs, places), bool)
    alive[:, :2] = True
    ever = np.full(runs, 2)
    index = np.arange(runs)
    arms = np.zeros((runs, ROUNDS), int)
    gains = np.zeros((runs, ROUNDS, BATCH))
    for t in range(ROUNDS):
        seen = np.maximum(pulls, 1)
        bonus = np.sqrt(2 * math.log(BATCH * t + 2) / (BATCH * seen)) * math.sqrt(BATCH)
        bound = np.where(pulls > 0, totals / seen + bonus, np.inf)
        arm = np.where(alive, bound, -np.inf).argmax(axis=1)
        centre = worth[index, arm] - (fall if t >= AT else 0.0)
        deviation = math.sqrt(BATCH) * (scale if t >= AT else 1.0)
        gains[:, t] = rng.normal(centre[:, None], deviation, (runs, BATCH))
        arms[:, t] = arm
        totals[index, arm] += gains[:, t].mean(axis=1)
        pulls[index, arm] += 1
        _admit(alive, ever, pulls, bound, totals, t)
    return Bandit(arms, gains)


def _admit(alive: Array, ever: Array, pulls: Array, bound: Array, totals: Array, t: int) -> None:
    """Let one newcomer in where the pool's rule allows, in place of the weakest known one."""
    for run in np.flatnonzero(ever < math.ceil(2 * math.sqrt(t + 2))):
        if alive[run].sum() >= 4:
            worth = totals[run] / np.maximum(pulls[run], 1)
            existing = alive[run] & (pulls[run] >= 2)
            existing[np.where(alive[run], worth, -np.inf).argmax()] = False
            if not existing.any():
                continue
            alive[run, np.where(existing, bound[run], np.inf).argmin()] = False
        alive[run, ever[run]] = True
        ever[run] += 1


def sums_of(fault: str, rng: np.random.Generator, runs: int, changed: bool) -> Array:
    """The fault's statistic over its limit, (runs, ROUNDS); at least 1 raises it."""
    counts = np.full((runs, ROUNDS), float(BATCH))
    late = np.arange(ROUNDS) >= AT
    match fault:
        case "degradation":
            found = bandit(rng, runs, fall=math.sqrt(BATCH) if changed else 0.0)
            steps = d.degradation_steps(found.means, found.squares, found.arms, counts)
            return change_detection.cusum(steps) / d.ARM_LIMIT
        case "high variance":
            found = bandit(rng, runs, scale=2.0 if changed else 1.0)
            steps = d.variance_steps(found.squares, counts - 1)
            return change_detection.cusum(steps) / d.SPREAD_LIMIT
        case "diversity":
            values = rng.normal(0.5, 0.1, (runs, ROUNDS)) - (0.1 * late if changed else 0.0)
            sums = change_detection.newest_sums(d.novelty_steps(values))
            return sums / (d.NOVELTY_LIMIT * d.early_factors(ROUNDS))
        case "truncation" | "failures":
            usual, raised, limit = (
                (d.USUAL_CUT, d.RAISED_CUT, d.CUT_LIMIT)
                if fault == "truncation"
                else (d.USUAL_FAILURES, d.RAISED_FAILURES, d.FAILURE_LIMIT)
            )
            deviation = math.sqrt(usual * (1 - usual) / BATCH)
            share = np.where(late & changed, usual + deviation, usual)
            hits = rng.binomial(BATCH, np.broadcast_to(share, (runs, ROUNDS))).astype(float)
            steps = change_detection.share_steps(hits, counts, usual, raised)
            return change_detection.newest_sums(steps) / limit
        case _:
            rises = rng.random((runs, ROUNDS)) < np.where(late & changed, 0.0, PROGRESS)
            stale = stale_rounds(np.cumsum(rises, axis=1).astype(float))
            return stale / (d.STALE_ROUNDS * d.early_factors(ROUNDS))


FAULTS = ("stagnation", "degradation", "high variance", "truncation", "diversity", "failures")


def rates(fault: str, runs: int, seed: int = 0) -> tuple[int, int, int]:
    """Runs with a false alarm at any time; of the changed ones, those noticed and those silent."""
    rng = np.random.default_rng([seed, FAULTS.index(fault)])
    alarms = int((sums_of(fault, rng, runs, False) >= 1).any(axis=1).sum())
    changed = sums_of(fault, rng, runs, True) >= 1
    silent = ~changed[:, :AT].any(axis=1)
    noticed = changed[silent, AT : AT + WITHIN].any(axis=1)
    return alarms, int(noticed.sum()), int(silent.sum())


def histories(rng: np.random.Generator, runs: int) -> list[list[d.RoundDiagnostics]]:
    """Healthy runs with everything that diagnostics look at."""
    pulls = bandit(rng, runs)
    shape = (runs, ROUNDS)
    cut = rng.binomial(BATCH, d.USUAL_CUT, shape)
    fallen = rng.binomial(BATCH, d.USUAL_FAILURES, shape)
    novelty = rng.normal(0.5, 0.1, shape)
    stale = stale_rounds(np.cumsum(rng.random(shape) < PROGRESS, axis=1).astype(float))
    return [
        [
            d.RoundDiagnostics(
                round=t + 1,
                arm=str(pulls.arms[run, t]),
                # On the scale of scores, where differences count as they do in practice.
                gains=tuple((pulls.gains[run, t] / 100).tolist()),
                fallbacks=int(fallen[run, t]),
                truncated=int(cut[run, t]),
                novelty=float(novelty[run, t]),
                diversity=0.6,
                stale=int(stale[run, t]),
            )
            for t in range(ROUNDS)
        ]
        for run in range(runs)
    ]


def any_alarm(history: list[d.RoundDiagnostics]) -> str:
    """The first fault that `diagnose` names, asked after every round; empty for none."""
    for end in range(1, len(history) + 1):
        if found := d.diagnose(history[:end]):
            return found[0].fault
    return ""


def tell(name: str, hits: int, of: int, how: str) -> None:
    """Print a share with Wilson's interval."""
    bounds = binomtest(hits, of).proportion_ci(0.95, "wilson")
    lo, hi = round(bounds.low, 4), round(bounds.high, 4)
    say(name, hits / of, unit="share", n=of, lo=lo, hi=hi, how=how)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    quick = parser.parse_args().quick
    runs, whole = (200, 100) if quick else (4000, 1000)
    healthy = f"healthy runs of {ROUNDS} rounds"
    for fault in FAULTS:
        print(f"{fault} ...", file=sys.stderr)
        alarms, noticed, silent = rates(fault, runs)
        tell(f"false_alarms/{fault}", alarms, runs, f"{healthy} that raise it")
        how = f"runs that raise it within {WITHIN} rounds of a change"
        tell(f"noticed/{fault}", noticed, silent, how)
    print("any ...", file=sys.stderr)
    rng = np.random.default_rng([0, len(FAULTS)])
    alarms = sum(any_alarm(item) != "" for item in histories(rng, whole))
    how = f"{healthy} of which diagnose, asked after each round, says anything"
    tell("false_alarms/any", alarms, whole, how)


if __name__ == "__main__":
    main()
