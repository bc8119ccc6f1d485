"""What a rewriter gains that knows the embedded world's taste: what the race's gains stand against.

    python scripts embedded_world.world_reach > docs/figures/reach.jsonl

It appends the same words to every prompt: of each attribute (light, style, framing, five scalars)
the name of the value that is liked most, the attribute with the largest effect first. How many it
appends is chosen on bench-dev; that many are judged on bench-final, by the race's test prompts and
run seeds. No method may know these words, and one that fits its words to the prompt could gain
more: it is a mark to read gains by, not a bound. Done again, everything is read from the project.
Then it counts, in the race's cells, how many of these attributes each method's instructions name.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import say
from peers.bench_peers import base_config
from peers.task import SEEDS, Bench, load_task

from bigpe.agents.evidence.terms import contains_term
from bigpe.agents.statistics.agreement import rank_correlation
from bigpe.agents.statistics.intervals import mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.runtime.evaluation.measure import Treatment, gains_by_prompt, measure
from bigpe.runtime.experiments.cells import newest, read_cells
from bigpe.runtime.experiments.report.tables import BEST
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.services import Services, open_services
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store
from embedded_world.embedded import world
from embedded_world.world_truth import effects

ROOT = Path(__file__).resolve().parents[2]
CELLS = ROOT / "docs" / "results" / "cells" / "peers-final.jsonl"
TABLES = (world.LIGHTS, world.STYLES, world.FRAMINGS)
TUNED_ON = 0
"""The run seed of bench-dev that says how many words to append."""
FEWEST_RUNS = 10
"""Of a method at a budget, for a word about its instructions."""


def liked() -> list[tuple[str, ...]]:
    """The words of each attribute's most liked value, the largest effect first."""
    existing = effects()
    attributes = [list(table.values()) for table in TABLES]
    attributes += [[world.HIGH[name], world.LOW[name]] for name in world.SCALAR_TASTE]
    best = [max(values, key=lambda words: existing[words[0]]) for values in attributes]
    return sorted(best, key=lambda words: -existing[words[0]])


async def gain(services: Services, bench: Bench, seed: int, words: Sequence[str]) -> float:
    """Mean held-out gain of the words, score x 100, over the bench's test prompts."""
    prompts = load_task(bench, seed, 0).test
    texts = {prompt: ", ".join([prompt, *words]) for prompt in prompts}
    treatment = Treatment(name="knows the taste", kind="texts", texts=texts)
    found = gains_by_prompt(await measure(services, treatment, prompts, seed=seed))
    value = 100 * mean([mean(gains) for gains in found.values()])
    print(f"bench-{bench}, run seed {seed}: {value:+.2f} {', '.join(words)}", file=sys.stderr)
    return value


async def work(folder: Path) -> None:
    words = [names[0] for names in liked()]
    project = Project(folder)
    async with Store(folder / "bigpe.db") as store:
        memo = CallCache(store)
        async with open_services(base_config(), project, memo, memo, run="reach") as services:
            dev = [
                await gain(services, "dev", TUNED_ON, words[:count])
                for count in range(1, len(words) + 1)
            ]
            for count, value in enumerate(dev, 1):
                how = f"bench-dev, run seed {TUNED_ON}: {', '.join(words[:count])}"
                say(f"reach_dev_{count}", round(value, 2), unit="score x 100", n=1, how=how)
            chosen = words[: 1 + dev.index(max(dev))]
            final = [await gain(services, "final", seed, chosen) for seed in SEEDS["final"]]
    say_mean(
        "reach_final",
        final,
        unit="score x 100",
        how=f"bench-final, the race's run seeds and test prompts: {', '.join(chosen)}; "
        f"by run seed {', '.join(f'{value:+.2f}' for value in final)}",
    )


def say_mean(figure: str, values: Sequence[float], *, unit: str, how: str) -> None:
    """Their mean and its 95% interval, Student's t."""
    result = mean_interval(values)
    assert result.lo is not None and result.hi is not None, "too few for an interval"
    lo, value, hi = (round(end, 2) for end in (result.lo, result.mean, result.hi))
    say(figure, value, unit=unit, n=len(values), lo=lo, hi=hi, how=how)


def say_named() -> None:
    """How many of the liked attributes the race's instructions name."""
    attributes = liked()
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for cell in newest(read_cells(CELLS)):
        named = [any(contains_term(cell.instruction, word) for word in a) for a in attributes]
        found[cell.arm].append((sum(named), mean([*cell.gains[BEST].values()])))
    for arm, runs in sorted(found.items()):
        rank = rank_correlation(runs)
        if len(runs) < FEWEST_RUNS or rank is None:  # best-of-n hands in no words
            continue
        how = f"of {len(attributes)}, named by its instructions; rank correlation with gain"
        counts = [count for count, _ in runs]
        say_mean(f"liked_named_{arm}", counts, unit="attributes", how=f"{how} {rank:+.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path, default=ROOT / "build" / "reach")
    folder: Path = parser.parse_args().project
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(work(folder))
    say_named()


if __name__ == "__main__":
    main()
