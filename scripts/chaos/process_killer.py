"""Killing runs from outside at chosen instants; used by scripts/chaos/ and its test."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chaos.activity_marks import Mark, read_marks
from chaos.crash_checks import Aftermath, Findings, outcome
from chaos.launchers import LATEST_S, Stage, job_for
from chaos.next_release import next_release

STATES = ("llm", "render", "score", "commit", "publish", "resume")
RAREST_FIRST = ("migrate", "resume", "publish", "commit", "score", "render", "llm")
MIGRATING_S = 0.3
"""About how long a resume with a migration takes."""
LOOK_S, LONGEST_LOOK_S = 0.0005, 1.0
"""How often a process's marks are looked at for an instant."""
EMBEDDED_CONFIG: dict[str, Any] = {
    "run": {"rounds": 2, "batch_size": 2, "pilot_prompts": 2, "concurrency": 2, "seed": 3},
    "render": {"steps": 4, "threads": 1},
    "score": {"threads": 1},
}


def fake_config(seed: int) -> dict[str, Any]:
    return {
        "run": {
            "rounds": 6, "batch_size": 3, "concurrency": 2, "pilot_prompts": 3, "seed": seed
        }
    }  # fmt: skip


class Undisturbed:
    """A run that was left alone: how it ends, and how long its life is."""

    def __init__(self, stage: Stage, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.config = config
        log = folder / "0.marks"
        stage.start(job_for(stage, folder, log, config))
        assert (code := stage.wait()) == 0, f"the undisturbed run ended with {code}"
        self.outcome = outcome(folder)
        marks = read_marks(log)
        self.seconds = (marks[-1].ns - _first_message(marks)) / 1e9
        self.opening_s = (_taken_up(marks) - _started(marks)) / 1e9
        """From the process's start until it goes to work; a resume takes about as long."""


# -- instants, told by a process's marks: nanoseconds, 0 when they have not come yet ---------------


def _started(marks: Sequence[Mark]) -> int:
    return marks[0].ns if marks else 0


def _first_message(marks: Sequence[Mark]) -> int:
    return next((mark.ns for mark in marks if mark.sign == "=" and mark.keys), 0)


def _taken_up(marks: Sequence[Mark]) -> int:
    return next((mark.ns for mark in marks if (mark.sign, mark.state) == ("-", "resume")), 0)


class Kill(NamedTuple):
    """When a process is killed: `gap_s` after the instant that `since` tells."""

    gap_s: float
    since: Callable[[Sequence[Mark]], int] = _started
    state: str = ""
    """Then on until this is under way; "": at once."""


def over_life(rng: random.Random, whole: Undisturbed, kills: int, *, migrate: bool) -> list[Kill]:
    """Uniform over the life of the run, the processes' starts included: where those are short."""
    gaps = _gaps(rng, whole, kills)
    if migrate:
        gaps[1:2] = [rng.uniform(0, MIGRATING_S)]
    return [Kill(gaps[0], _first_message), *map(Kill, gaps[1:])]


def over_work(rng: random.Random, whole: Undisturbed, kinds: Sequence[str]) -> list[Kill]:
    """Where starting takes seconds: uniform over the time that processes work.

    A kind is "" for that; "resume" for an instant of the start instead; or a short state, which
    is waited for from the instant on.
    """
    later = [
        Kill(rng.uniform(0, whole.opening_s)) if kind == "resume" else Kill(gap, _taken_up, kind)
        for gap, kind in zip(_gaps(rng, whole, len(kinds)), kinds, strict=True)
    ]
    return [later[0]._replace(since=_first_message), *later[1:]]


def _gaps(rng: random.Random, whole: Undisturbed, count: int) -> list[float]:
    instants = sorted(rng.uniform(0, whole.seconds) for _ in range(count))
    return [after - before for before, after in zip([0.0, *instants], instants, strict=False)]


class Trial:
    """One run, killed again and again, then resumed to its end."""

    def __init__(self, stage: Stage, folder: Path, whole: Undisturbed, found: Findings) -> None:
        folder.mkdir(parents=True)
        self._stage = stage
        self._folder = folder
        self._whole = whole
        self._found = found
        self._aftermath = Aftermath(folder, whole.outcome, found)
        self._processes = 0
        self.seconds = 0.0
        """How long the processes have worked so far."""

    def run(self, kills: Sequence[Kill], *, migrate: bool = False) -> None:
        """Kill so often, or less if the run ends before, and look at the end.

        `migrate`: all processes but the first are of the next release.
        """
        self._found.runs += 1
        for index, kill in enumerate([*kills, None]):
            if not self._live(kill, migrate=migrate and index > 0):
                break
        with next_release(migrate):
            self._aftermath.ended(self._log)
        shutil.rmtree(self._folder)

    @property
    def _log(self) -> Path:
        return self._folder / f"{self._processes}.marks"

    def _live(self, kill: Kill | None, *, migrate: bool) -> bool:
        """Start a process, and kill it if `kill` says so; was it killed?"""
        self._processes += 1
        pid = self._stage.start(
            job_for(self._stage, self._folder, self._log, self._whole.config, migrate=migrate)
        )
        killed_ns = 0
        begun = _first_message if self._processes == 1 else _taken_up
        if kill is not None and self._come(pid, kill):
            killed_ns = time.monotonic_ns()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self._stage.wait()
        marks = read_marks(self._log)
        if since := begun(marks):
            self.seconds += max(0, (killed_ns or marks[-1].ns) - since) / 1e9
        if code == -signal.SIGKILL:
            # Models in processes of their own live on for a moment; the run itself does not.
            marks = [mark for mark in marks if mark.pid == pid or mark.ns <= killed_ns]
            self._found.kills += 1
            self._found.states[state_of(marks)] += 1
            self._aftermath.killed(self._log)
            return True
        if code != 0:
            self._aftermath.diverged(f"process {self._processes} ended with {code}")
        return False

    def _come(self, pid: int, kill: Kill) -> bool:
        """Wait for the instant; False when the process has ended before."""
        deadline = time.monotonic() + LATEST_S
        while time.monotonic() < deadline:
            marks = read_marks(self._log)
            if _has_ended(pid, marks):
                return False
            since = kill.since(marks)
            left = since / 1e9 + kill.gap_s - time.monotonic()
            if since and left <= 0 and kill.state in ("", state_of(marks)):
                return True
            time.sleep(min(max(left, LOOK_S), LONGEST_LOOK_S) if since else LOOK_S)
        raise TimeoutError(f"process {pid} did not come to {kill} in {LATEST_S:g} s")


def _has_ended(pid: int, marks: Sequence[Mark]) -> bool:
    if marks and marks[-1].state == "end":
        return True
    try:
        result = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return result.rpartition(")")[2].split()[0] == "Z"  # ended, and nobody has asked how yet


def state_of(marks: Sequence[Mark]) -> str:
    """The rarest state that is open after `marks`."""
    open_ = Counter[str]()
    for mark in marks:
        open_[mark.state] += {"+": 1, "-": -1, "=": 0}[mark.sign]
    return next((state for state in RAREST_FIRST if open_[state] > 0), "between")
