"""Kill real runs at random instants, resume them, and compare with runs that were left alone.

    python scripts chaos --kills 200 --embedded 20 [--seed 0]
    python scripts chaos --quick

A run's life is the time that its processes are up, from the first committed message on. Instants
are drawn uniformly over as long a life as the undisturbed run's; at each one the process that is
up gets SIGKILL, and another one resumes. Every fourth run is resumed by a next release, whose
schema differs, and the next instant is drawn over its start, so that kills fall into a migration.
Embedded models take seconds to load: there instants are drawn over the work, some over loading, and
some go on to the next scoring or commit. What was under way at a kill is read from marks that the
process left (scripts/chaos/activity_marks.py). Once the wanted kills are done, further ones wait
in the same way for the states that had few.

Prints the figures of docs/figures/chaos.jsonl; exits with 1 when a fault was found.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import say

from chaos.crash_checks import Findings
from chaos.launchers import ForkedStage, Stage, StartedStage
from chaos.process_killer import (
    EMBEDDED_CONFIG,
    STATES,
    Trial,
    Undisturbed,
    fake_config,
    over_life,
    over_work,
)

ROOT = Path(__file__).resolve().parents[2]
KILLS_A_RUN = 4
EMBEDDED_KILLS = ("", "score", "", "resume", "", "commit")
"""Of a run, in order; see `over_work`."""
ENOUGH = 10
"""Kills wanted in every state."""
PATIENCE = 2
"""Times the wanted kills, after which no more are drawn."""
SEEDS = (11, 12, 13)
"""Of the fake runs."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="at least so many, on fast fakes")
    parser.add_argument("--embedded", type=int, default=0, help="so many more on embedded models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20 kills, however they fall")
    return parser.parse_args(words)


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def lacking(found: Findings, each: int) -> list[str]:
    """The states that have had fewer kills."""
    return [state for state in (*STATES, "migrate") if found.states[state] < each]


def tell_faults(found: Findings) -> None:
    while found.notes:
        log(found.notes.pop(0))


def on_fakes(stage: Stage, folder: Path, rng: random.Random, kills: int, each: int) -> Findings:
    """At least `kills`; then on, aimed at the states that have not had `each`, until all have."""
    found = Findings()
    whole = [Undisturbed(stage, folder / f"whole-{seed}", fake_config(seed)) for seed in SEEDS]
    runs = 0
    while found.kills < kills or lacking(found, each):
        if found.kills >= PATIENCE * kills:
            break
        runs += 1
        undisturbed = whole[runs % len(whole)]
        migrate = runs % 4 == 0
        wanted = lacking(found, each) if found.kills >= kills and not migrate else []
        if aimed := [state for state in wanted if state != "migrate"]:
            chosen = over_work(rng, undisturbed, (aimed * KILLS_A_RUN)[:KILLS_A_RUN])
        else:
            chosen = over_life(rng, undisturbed, KILLS_A_RUN, migrate=migrate)
        Trial(stage, folder / str(runs), undisturbed, found).run(chosen, migrate=migrate)
        tell_faults(found)
        if runs % 10 == 0:
            log(f"{runs} runs, {found.kills} kills: {dict(found.states)}")
    return found


def on_embedded_models(stage: Stage, folder: Path, rng: random.Random, kills: int) -> Findings:
    found = Findings()
    if not kills:
        return found
    whole = Undisturbed(stage, folder / "whole", EMBEDDED_CONFIG)
    log(f"the embedded run takes {whole.seconds:.1f} s undisturbed")
    runs = 0
    while found.kills < kills:
        runs += 1
        trial = Trial(stage, folder / str(runs), whole, found)
        kinds = EMBEDDED_KILLS[: kills - found.kills]
        trial.run(over_work(rng, whole, kinds))
        tell_faults(found)
        # A machine that is less busy now would be through before the instants.
        whole.seconds = min(whole.seconds, trial.seconds)
        log(f"embedded run {runs}: {found.kills} kills, {dict(found.states)}")
    return found


def counts_text(states: Counter[str]) -> str:
    return ", ".join(f"{state} {states[state]}" for state in (*STATES, "migrate", "between"))


def report(fakes: Findings, embedded: Findings, seed: int) -> bool:
    """Say every figure; whether all is well."""
    both = fakes + embedded
    how = (
        "SIGKILL at uniform instants of the run's life, the last ones going on from there to "
        f"states that had few; seed {seed}; state at the kill: "
        f"{counts_text(both.states)}"
    )
    say("kills", both.kills, unit="kills", n=both.runs, how=how)
    how = (
        "embedded LLM, renderer and scorer in child processes; loading them takes most of a "
        "process's time, so: of six kills three at uniform instants of the work alone, two at the "
        "first scoring and the first commit from such an instant on, one at a uniform instant of "
        f"loading: {counts_text(embedded.states)}"
    )
    say("kills_embedded", embedded.kills, unit="kills", n=embedded.runs, how=how)
    least = min(both.states[state] for state in STATES)
    how = (
        f"least of {', '.join(STATES)}; a kill counts once, for the rarest state that was open; "
        "after the uniform ones, kills went on to the states that had fewer; publishing is held "
        "open 1 ms a message"
    )
    say("kills_min_per_state", least, unit="kills", n=both.kills, how=how)
    faults = {
        "diverged_runs": (
            both.diverged,
            "runs",
            both.runs,
            "transcript (ids and bodies), pool, scores or choices not as in the undisturbed run, "
            "or a process that did not resume",
        ),
        "lost_records": (
            both.lost,
            "records",
            both.promised,
            "messages and paid results whose commit was acknowledged and that were gone after a "
            "kill or at the end, and pictures referred to that are not there; n: looked for",
        ),
        "repeated_calls_beyond_in_flight": (
            both.repeated,
            "calls",
            both.calls,
            "LLM calls, renders and scores made again (counted where the models are served), less "
            f"those under way at a kill; {both.repeated_in_flight} of those were made again",
        ),
        "orphan_images": (
            both.orphans,
            "files",
            both.pictures,
            f"after gc, which removed {both.swept}",
        ),
        "integrity_failures": (
            both.damaged,
            "databases",
            both.checked,
            "PRAGMA integrity_check after each kill and each end; a schema half migrated, too",
        ),
    }
    for figure, (value, unit, n, how) in faults.items():
        say(figure, value, unit=unit, n=n, how=how)
    return not any(value for value, *_ in faults.values())


def main(words: Sequence[str] | None = None) -> int:
    chosen = arguments(words)
    kills, embedded, each = chosen.kills, chosen.embedded, ENOUGH
    if chosen.quick:
        kills, embedded, each = 20, 0, 0
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="bigpe-chaos-") as name:
        folder = Path(name)
        with ForkedStage() as stage:
            fakes = on_fakes(stage, folder / "fakes", rng, kills, each)
        found = on_embedded_models(StartedStage(), folder / "embedded", rng, embedded)
    return 0 if report(fakes, found, chosen.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
