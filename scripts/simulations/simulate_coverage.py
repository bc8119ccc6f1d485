"""How often the confidence sequence of `evaluate --until-significant` is right, by simulation.

    python scripts simulations.simulate_coverage > docs/figures/coverage.jsonl
    python scripts simulations.simulate_coverage --quick

Each distribution is drawn many times, looked at after every value from the twelfth on, and stopped
by each rule; a run counts as covered when the interval that it stopped at holds the true mean.
"any look" is stricter than any rule can be: no interval of the run may miss. The embedded
differences are resampled from tests/golden/embedded_gains.json, per-prompt gains of real models.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.figures import say
from numpy.typing import NDArray
from scipy.stats import binomtest

from bigpe.agents.statistics.confidence_sequence import FIRST_LOOK, sequence_bounds

ROOT = Path(__file__).resolve().parents[2]
GAINS = ROOT / "tests/golden/embedded_gains.json"
LOOKS = 400
OUTSIDE = "out of reach"
"""Name of a distribution that is told to show where the sequence ends: no sequence without known
bounds of the values covers a mean that rests on values too rare to have been seen."""
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[Any]]


def resampled(gains: list[float]) -> Draw:
    """Draws from these values, moved to mean 0."""
    centred = np.array(gains) - np.mean(gains)
    return lambda rng, shape: rng.choice(centred, shape)


def distributions() -> dict[str, Draw]:
    """Differences of mean 0."""
    found: dict[str, Draw] = {
        "normal": lambda rng, shape: rng.normal(size=shape),
        "t5": lambda rng, shape: rng.standard_t(5, size=shape),
        "exponential (skewness 2)": lambda rng, shape: rng.exponential(size=shape) - 1,
        "minus exponential": lambda rng, shape: 1 - rng.exponential(size=shape),
        "lognormal 0.5 (skewness 1.75)": lambda rng, shape: (
            rng.lognormal(0, 0.5, size=shape) - np.exp(0.125)
        ),
        "lognormal 1 (skewness 6.2)": lambda rng, shape: (
            rng.lognormal(0, 1, size=shape) - np.exp(0.5)
        ),
        "minus lognormal 1": lambda rng, shape: np.exp(0.5) - rng.lognormal(0, 1, size=shape),
        "gamma 0.25 (skewness 4)": lambda rng, shape: rng.gamma(0.25, size=shape) - 0.25,
        f"{OUTSIDE} (one in twenty counts)": lambda rng, shape: (
            (rng.random(shape) < 0.05) - 0.05 + rng.normal(0, 0.05, size=shape)
        ),
        "half exactly 0": lambda rng, shape: rng.normal(size=shape) * (rng.random(shape) < 0.5),
    }
    for name, gains in json.loads(GAINS.read_text("utf-8"))["gains"].items():
        found[f"embedded {name}"] = resampled(gains)
    return found


def first(stop: NDArray[Any]) -> NDArray[Any]:
    """The look at which each run stops: the first that `stop` names, else the last."""
    return np.where(stop.any(axis=1), stop.argmax(axis=1), stop.shape[1] - 1)


def coverage(draw: Draw, rng: np.random.Generator, runs: int, looks: int) -> dict[str, int]:
    """How many of `runs` were covered, by stopping rule."""
    values = draw(rng, (runs, looks))
    scale = values.std()
    lo, hi = sequence_bounds(values)
    plain_lo, plain_hi = sequence_bounds(values, skewed=False)
    # A true effect, so that 'first exclusion of 0' also stops on the right side.
    effect = 0.5 * scale
    holds = (lo <= 0) & (hi >= 0)
    messages = np.arange(looks) >= FIRST_LOOK - 1
    rules = {
        "first exclusion of 0, no effect": first((lo > 0) | (hi < 0)),
        "first exclusion of 0, effect 0.5 sd": first((lo + effect > 0) | (hi + effect < 0)),
        "half-width below 0.3 sd": first((hi - lo) / 2 < 0.3 * scale),
        f"at {FIRST_LOOK}": np.full(runs, FIRST_LOOK - 1),
        "at 20": np.full(runs, 19),
        "at the end": np.full(runs, looks - 1),
        "mean looks best so far": first(
            (lo > -np.inf) & (np.cumsum(values, 1) / np.arange(1, looks + 1) > 0.4 * scale)
        ),
    }
    found = {name: int(holds[np.arange(runs), at].sum()) for name, at in rules.items()}
    found["any look"] = int((holds | ~messages).all(axis=1).sum())
    plain = (plain_lo <= 0) & (plain_hi >= 0)
    found["any look, t mixture alone"] = int((plain | ~messages).all(axis=1).sum())
    return found


def simulate(runs: int, looks: int, seed: int = 0) -> list[dict[str, Any]]:
    """A figure for each distribution and rule."""
    figures: list[dict[str, Any]] = []
    for index, (name, draw) in enumerate(distributions().items()):
        print(f"{name} ...", file=sys.stderr)
        found: dict[str, int] = {}
        for block in range(0, runs, 1000):
            rng = np.random.default_rng([seed, index, block])
            part = coverage(draw, rng, min(1000, runs - block), looks)
            found = {rule: found.get(rule, 0) + n for rule, n in part.items()}
        for rule, covered in found.items():
            interval = binomtest(covered, runs).proportion_ci(0.95, "wilson")
            figures.append(
                {
                    "figure": f"coverage/{name}/{rule}",
                    "value": covered / runs,
                    "unit": "share",
                    "n": runs,
                    "lo": round(interval.low, 5),
                    "hi": round(interval.high, 5),
                    "how": f"looks at every value from {FIRST_LOOK} to {looks}; nominal 0.95",
                }
            )
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs and looks")
    options = parser.parse_args()
    runs, looks = (1000, 100) if options.quick else (20_000, LOOKS)
    for figure in simulate(runs, looks):
        say(**figure)


if __name__ == "__main__":
    main()
