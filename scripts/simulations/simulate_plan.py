"""Does a comparison planned with `bigpe plan` have the power that the plan names? By simulation.

    python scripts simulations.simulate_plan > docs/figures/plan.jsonl
    python scripts simulations.simulate_plan --quick

A pilot of a few prompts tells the spread of a gain; from it come the plan's number of prompts and
the number "to be sure". Then a comparison of as many new prompts is drawn and tested. `power` is
the share of comparisons that find the effect, over pilots and comparisons together; `kept` the
share of pilots whose plan has at least the wanted power, by the formula with the true spread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from benchmarks.figures import say
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from bigpe.agents.statistics.power import power, prompts_needed, spread_parts
from simulations.simulate_coverage import distributions

EFFECT, WANTED = 0.5, 0.8
"""In true standard deviations of a prompt's gain."""
PILOTS = (8, 20, 60)
SHAPES = ("normal", "exponential (skewness 2)", "embedded best instruction")
Values = NDArray[Any]


def standardised(draw: Callable[..., Values]) -> Callable[..., Values]:
    """The same differences with deviation 1."""
    scale = float(draw(np.random.default_rng(0), (1000, 1000)).std())
    return lambda rng, shape: draw(rng, shape) / scale


@cache
def needed(thousandths: int) -> int:
    """Prompts for the effect at a spread; rounded up, so that few spreads are looked up."""
    return prompts_needed(EFFECT, thousandths / 1000, WANTED) or 0


def plans(pilot: Values) -> dict[str, int]:
    """What a pilot's gains lead to."""
    spread = spread_parts([[[float(gain)] for gain in pilot]])
    if spread is None:
        raise ValueError("a pilot of one prompt")
    result = {"plan": spread.sd(1), "to be sure": spread.sd_at_most(1)}
    return {name: needed(int(np.ceil(1000 * max(sd, 0.001)))) for name, sd in result.items()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pilots")
    runs = 200 if parser.parse_args().quick else 4000
    for figure in simulate(runs):
        say(**figure)


def simulate(runs: int, seed: int = 0) -> list[dict[str, Any]]:
    """The figures of pilots, one row for each number."""
    figures: list[dict[str, Any]] = []
    for index, shape in enumerate(SHAPES):
        draw = standardised(distributions()[shape])
        for prompts in PILOTS:
            rng = np.random.default_rng([seed, index, prompts])
            found: dict[str, list[int]] = {}
            for _ in range(runs):
                for name, size in plans(draw(rng, (1, prompts))[0]).items():
                    tested = EFFECT + draw(rng, (1, size))[0]
                    hit = ttest_1samp(tested, 0).pvalue < 0.05  # pyright: ignore[reportAttributeAccessIssue]
                    kept = power(EFFECT, 1.0, size) >= WANTED
                    found.setdefault(f"power/{name}", []).append(int(hit))
                    found.setdefault(f"kept/{name}", []).append(int(kept))
            for name, hits in found.items():
                bounds = binomtest(sum(hits), runs).proportion_ci(0.95, "wilson")
                figures.append(
                    {
                        "figure": f"plan/{name}/{shape}/pilot of {prompts}",
                        "value": sum(hits) / runs,
                        "unit": "share",
                        "n": runs,
                        "lo": round(bounds.low, 4),
                        "hi": round(bounds.high, 4),
                        "how": f"effect {EFFECT} sd, wanted power {WANTED}",
                    }
                )
    return figures


if __name__ == "__main__":
    main()
