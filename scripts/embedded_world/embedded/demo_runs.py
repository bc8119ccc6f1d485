"""The demo as a user runs it, over several run seeds, each judged on test prompts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from bigpe.runtime.evaluation.compare import Evaluation, TreatmentComparison


class Judged(NamedTuple):
    """One run: mean gains of the instruction that it found, on test prompts, score x 100."""

    gain: float
    """Against the naive prompts."""
    over_seed: float
    """Against the first seed instruction; 0 if it found no other."""


def judged_runs(
    seeds: int, *, prompts: int, settings: tuple[str, ...] = (), candidates: int | None = None
) -> Iterator[Judged]:
    """`bigpe init`, `run` and `evaluate` with run seeds 0, 1, ...; progress to stderr.

    `settings` replace the template's; `candidates` as `bigpe evaluate` has it, None: its default.
    """
    few = ("--candidates", str(candidates)) if candidates else ()
    chosen = [part for item in settings for part in ("--set", item)]
    for seed in range(seeds):
        with tempfile.TemporaryDirectory(prefix="bigpe-demo-") as folder:
            bigpe("init", folder, "--template", "embedded")
            bigpe("run", "-p", folder, "--set", f"run.seed={seed}", *chosen)
            wanted = ("--prompts", str(prompts), *few, "--yes", "--json")
            result = bigpe("evaluate", "-p", folder, *wanted)
        found = judged(Evaluation.model_validate_json(result))
        print(f"demo, run seed {seed}: {found}", file=sys.stderr, flush=True)
        yield found


def judged(report: Evaluation) -> Judged:
    """The chosen instruction's line; a run that chose none (all were vetoed) gains nothing."""
    best = _chosen(report)
    if best is None or best.gain is None:
        return Judged(0.0, 0.0)
    over = best.over_seed.mean if best.over_seed else 0.0
    return Judged(100 * best.gain.mean, 100 * over)


def _chosen(report: Evaluation) -> TreatmentComparison | None:
    """By the instruction: a chosen seed stands in the table under its own name."""
    chosen = report.selection.chosen if report.selection else None
    fitting = (
        comparison for comparison in report.compared if comparison.treatment.instruction == chosen
    )
    return next(fitting, None) if chosen else None


def bigpe(*words: str) -> str:
    """What a command prints; its progress goes where ours goes."""
    command = [sys.executable, "-P", "-m", "bigpe", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
