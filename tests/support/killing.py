"""Killing runs from outside and looking at what is left; used by scripts/chaos.py and its test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from bigpe.runtime.garbage import sweep
from bigpe.runtime.history import replayed_campaign
from bigpe.runtime.project import Project
from bigpe.services.blobs import BlobStore
from bigpe.services.store import Store
from support.marks import Mark, effect_key, read_marks
from support.next_release import ROWS, THIS_VERSION, next_release

TESTS = Path(__file__).resolve().parent.parent
STATES = ("llm", "render", "score", "commit", "publish", "resume")
RAREST_FIRST = ("migrate", "resume", "publish", "commit", "score", "render", "llm")
LATEST_S = 300.0
MIGRATING_S = 0.3
"""About how long a resume with a migration takes."""
EMBEDDED_CONFIG: dict[str, Any] = {
    "run": {"rounds": 2, "batch_size": 2, "pilot_prompts": 2, "concurrency": 2, "seed": 3},
    "render": {"steps": 4, "threads": 1},
    "score": {"threads": 1},
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def fake_config(seed: int) -> dict[str, Any]:
    return {
        "run": {
            "rounds": 6, "batch_size": 3, "concurrency": 2, "pilot_prompts": 3, "seed": seed
        }
    }  # fmt: skip


class Stage(Protocol):
    """Starts processes."""

    embedded: bool
    sabotage: str

    def start(self, job: dict[str, Any]) -> int:
        """The pid of a process that works on the job."""
        ...

    def wait(self) -> int:
        """Until that process has ended: its exit code, negative for a signal."""
        ...


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


class ForkedStage:
    """Forks of one warm interpreter, for runs on fakes."""

    embedded = False
    sabotage = ""
    """A fault of the product to be found: "loses" records, "repays" calls."""

    def __enter__(self) -> ForkedStage:
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-m", "support.killable", "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.communicate()

    def start(self, job: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        return self._answer()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


class StartedStage:
    """A fresh interpreter for each process, for runs on the embedded models."""

    embedded = True
    sabotage = ""

    def start(self, job: dict[str, Any]) -> int:
        command = [sys.executable, "-P", "-m", "support.killable", json.dumps(job)]
        self._process = subprocess.Popen(command, env=_environment())
        return self._process.pid

    def wait(self) -> int:
        return self._process.wait(LATEST_S)


@dataclass
class Findings:
    """What was done, and what was wrong."""

    runs: int = 0
    kills: int = 0
    states: Counter[str] = field(default_factory=Counter[str])
    diverged: int = 0
    lost: int = 0
    promised: int = 0
    repeated: int = 0
    repeated_in_flight: int = 0
    calls: int = 0
    orphans: int = 0
    swept: int = 0
    pictures: int = 0
    damaged: int = 0
    checked: int = 0
    notes: list[str] = field(default_factory=list[str])

    def __add__(self, other: Findings) -> Findings:
        names = [one.name for one in fields(self)]
        return Findings(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class Outcome:
    """A run's end, as far as it must be equal."""

    transcript: frozenset[tuple[str, str]]
    pool: tuple[object, ...]
    scores: frozenset[object]
    choices: tuple[str, ...]


class Undisturbed:
    """A run that was left alone: how it ends, and how long its life is."""

    def __init__(self, stage: Stage, folder: Path, config: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.config = config
        marks = folder / "0.marks"
        stage.start(_job(stage, folder, marks, config))
        assert (code := stage.wait()) == 0, f"the undisturbed run ended with {code}"
        self.outcome = outcome(folder)
        told = read_marks(marks)
        self.seconds = (told[-1].ns - _first_message(told)) / 1e9


def _job(
    stage: Stage, folder: Path, marks: Path, config: dict[str, Any], *, migrate: bool = False
) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "marks": str(marks),
        "config": config,
        "migrate": migrate,
        "embedded": stage.embedded,
        "sabotage": stage.sabotage,
    }


def _first_message(marks: list[Mark]) -> int:
    """When the first message was committed; 0: not yet."""
    return next((mark.ns for mark in marks if mark.sign == "=" and mark.keys), 0)


def outcome(folder: Path) -> Outcome:
    async def read() -> Outcome:
        async with Store(folder / "bigpe.db", read_only=True) as store:
            campaign = await replayed_campaign(store, "main")
        rows = _select(folder / "bigpe.db", "SELECT mid, body, type FROM message ORDER BY round")
        bodies = [(kind, json.loads(body)) for _, body, kind in rows]
        choices = [b["instruction"]["text"] for kind, b in bodies if kind == "RewriteRequested"]
        scores = [
            (b["naive"], b["prompt"], b["seed"], b["score"])
            for k, b in bodies
            if k == "ImageScored"
        ]
        return Outcome(
            frozenset((mid, body) for mid, body, _ in rows),
            tuple(campaign.pool.rows()),
            frozenset(scores),
            tuple(choices),
        )

    return asyncio.run(read())


def _select(database: Path, sql: str) -> list[Any]:
    with contextlib.closing(
        sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    ) as connection:
        return connection.execute(sql).fetchall()


class Trial:
    """One run, killed again and again, then resumed to its end."""

    def __init__(self, stage: Stage, folder: Path, whole: Undisturbed, found: Findings) -> None:
        folder.mkdir(parents=True)
        self._stage = stage
        self._folder = folder
        self._whole = whole
        self._found = found
        self._logs: list[Path] = []
        self._committed: list[set[str]] = []
        """Of each process that was killed: the paid results that were in the database then."""
        self._promised: set[str] = set()

    def run(self, rng: random.Random, kills: int, *, migrate: bool) -> None:
        """Kill at `kills` instants, or fewer if the run ends before, and look at the end."""
        self._found.runs += 1
        instants = sorted(rng.uniform(0, self._whole.seconds) for _ in range(kills))
        gaps = [later - earlier for earlier, later in zip([0.0, *instants], instants, strict=False)]
        if migrate:
            gaps[1:2] = [rng.uniform(0, MIGRATING_S)]
        for index, gap in enumerate(gaps):
            if not self._live(gap, migrate=migrate and index > 0):
                break
        else:
            self._live(None, migrate=migrate)
        with next_release(migrate):
            self._judge_end()
        self._judge_calls()
        shutil.rmtree(self._folder)

    # -- one process --------------------------------------------------------------------------

    def _live(self, gap: float | None, *, migrate: bool) -> bool:
        """Start a process and kill it `gap` seconds into its life (None: never); was it killed?"""
        first = not self._logs
        log = self._folder / f"{len(self._logs)}.marks"
        self._logs.append(log)
        pid = self._stage.start(
            _job(self._stage, self._folder, log, self._whole.config, migrate=migrate)
        )
        killed_ns = 0
        if gap is not None and (born := self._born(pid, log, first=first)):
            time.sleep(max(0.0, born + gap - time.monotonic()))
            killed_ns = time.monotonic_ns()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self._stage.wait()
        if code == -signal.SIGKILL:
            self._judge_kill(pid, log, killed_ns)
            return True
        if code != 0:
            self._note(f"process {len(self._logs)} ended with {code}")
            self._found.diverged += 1
        return False

    def _born(self, pid: int, log: Path, *, first: bool) -> float:
        """When the process took up its run, or committed its first message; 0: it has ended."""
        deadline = time.monotonic() + LATEST_S
        while time.monotonic() < deadline:
            marks = read_marks(log)
            ns = _first_message(marks) if first else (marks[0].ns if marks else 0)
            if ns:
                return ns / 1e9
            if not Path(f"/proc/{pid}").exists():
                return 0.0
            time.sleep(0.001)
        raise TimeoutError(f"process {pid} took up nothing in {LATEST_S:g} s")

    # -- what is left after a kill ------------------------------------------------------------

    def _judge_kill(self, pid: int, log: Path, killed_ns: int) -> None:
        found = self._found
        found.kills += 1
        marks = read_marks(log)
        # Models in processes of their own live on for a moment; the run itself does not.
        found.states[state_of([m for m in marks if m.pid == pid or m.ns <= killed_ns])] += 1
        copy = self._folder / "copy"
        copy.mkdir()
        for name in ("bigpe.db", "bigpe.db-wal"):  # what a new process would find
            if (self._folder / name).exists():
                shutil.copy(self._folder / name, copy / name)
        database = copy / "bigpe.db"
        self._judge_database(database)
        kept = self._judge_promises(database)
        if not kept <= self._whole.outcome.transcript:
            self._note("a message that the undisturbed run does not have")
            found.diverged += 1
        effects = _select(database, "SELECT kind, request FROM effect")
        self._committed.append({effect_key(kind, json.loads(body)) for kind, body in effects})
        shutil.rmtree(copy)

    def _judge_database(self, database: Path) -> None:
        self._found.checked += 1
        told = _select(database, "PRAGMA integrity_check")
        version = _select(database, "PRAGMA user_version")[0][0]
        tables = _select(database, "SELECT count(*) FROM sqlite_master WHERE name = 'chaos'")[0][0]
        whole = not tables or _select(database, "SELECT count(*) FROM chaos") == [(ROWS,)]
        if told != [("ok",)] or tables != version - THIS_VERSION or not whole:
            self._note(f"{told}, schema {version}, {tables} new tables, whole: {whole}")
            self._found.damaged += 1

    def _judge_promises(self, database: Path) -> set[tuple[str, str]]:
        for mark in read_marks(self._logs[-1]):
            if mark.sign == "=":
                self._promised.update(mark.keys)
        messages = set(_select(database, "SELECT mid, body FROM message"))
        there = {mid for mid, _ in messages}
        there |= {key for (key,) in _select(database, "SELECT key FROM effect")}
        self._found.promised += len(self._promised)
        if gone := self._promised - there:
            self._note(f"{len(gone)} acknowledged records are gone")
            self._found.lost += len(gone)
        return messages

    # -- the end ------------------------------------------------------------------------------

    def _judge_end(self) -> None:
        database = self._folder / "bigpe.db"
        self._judge_database(database)
        self._judge_promises(database)
        end = outcome(self._folder)
        if end != self._whole.outcome:
            parts = [
                f.name
                for f in fields(end)
                if getattr(end, f.name) != getattr(self._whole.outcome, f.name)
            ]
            self._note(f"another end: {', '.join(parts)}")
            self._found.diverged += 1
        self._judge_pictures(database)

    def _judge_pictures(self, database: Path) -> None:
        project = Project(self._folder)

        async def collect() -> int:
            async with Store(database, read_only=True) as store:
                swept = await sweep(project, store, older_than_s=0)
            return swept.pictures + swept.unfinished

        self._found.swept += asyncio.run(collect())
        texts = _select(database, "SELECT body FROM message UNION ALL SELECT result FROM effect")
        named = {digest for (text,) in texts for digest in _DIGEST.findall(text)}
        blobs = BlobStore(project.images)
        there = set(blobs.digests())
        files = [path for path in project.images.rglob("*") if path.is_file()]
        results = _select(database, "SELECT result FROM effect WHERE kind = 'render'")
        painted = {json.loads(result)["digest"] for (result,) in results}
        self._found.pictures += len(files)
        self._found.orphans += len(files) - len(there & named)
        self._found.lost += len(painted - there)

    def _judge_calls(self) -> None:
        """Every call but those under way at a kill was made once."""
        made, excused = Counter[str](), Counter[str]()
        for index, log in enumerate(self._logs):
            begun = Counter(
                key
                for mark in read_marks(log)
                if mark.sign == "+" and mark.state in ("llm", "render", "score")
                for key in mark.keys
            )
            made += begun
            if index < len(self._committed):
                excused.update(begun.keys() - self._committed[index])
        again = {key: count - 1 for key, count in made.items() if count > 1}
        beyond = {key: n - excused[key] for key, n in again.items() if n > excused[key]}
        self._found.calls += made.total()
        self._found.repeated += sum(beyond.values())
        self._found.repeated_in_flight += sum(again.values()) - sum(beyond.values())
        if beyond:
            self._note(f"{len(beyond)} calls were repeated without need")

    def _note(self, text: str) -> None:
        self._found.notes.append(f"{self._folder.name}: {text}")


def state_of(marks: list[Mark]) -> str:
    """The rarest state that is open after `marks`."""
    open_ = Counter[str]()
    for mark in marks:
        open_[mark.state] += {"+": 1, "-": -1, "=": 0}[mark.sign]
    return next((state for state in RAREST_FIRST if open_[state] > 0), "between")
