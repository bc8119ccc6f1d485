"""What killed runs left: whether anything is lost, damaged or paid for twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bigpe.runtime.project.garbage_collection import sweep
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Store
from chaos.activity_marks import effect_key, read_marks
from chaos.next_release import ROWS, THIS_VERSION

_DIGEST = re.compile(r"[0-9a-f]{64}")


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
        names = [entry.name for entry in fields(self)]
        return Findings(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class Outcome:
    """A run's end, as far as it must be equal."""

    transcript: frozenset[tuple[str, str]]
    pool: tuple[object, ...]
    scores: frozenset[object]
    choices: tuple[str, ...]


def outcome(folder: Path) -> Outcome:
    async def read() -> Outcome:
        async with Store(folder / "bigpe.db", read_only=True) as store:
            campaign = await replayed_campaign(store, "main")
            instructions = campaign.pool.rows()
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
            tuple(instructions),
            frozenset(scores),
            tuple(choices),
        )

    return asyncio.run(read())


def _select(database: Path, sql: str) -> list[Any]:
    with contextlib.closing(
        sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    ) as connection:
        return connection.execute(sql).fetchall()


class Aftermath:
    """Of one run: what its processes promised, held against what is there."""

    def __init__(self, folder: Path, wanted: Outcome, found: Findings) -> None:
        """`wanted`: the end of a run that was left alone."""
        self._folder = folder
        self._wanted = wanted
        self._found = found
        self._logs: list[Path] = []
        self._committed: list[set[str]] = []
        """Of each process that was killed: the paid results that were in the database then."""
        self._promised: set[str] = set()

    def killed(self, log: Path) -> None:
        """Judge what a process left that was killed; `log`: its marks."""
        self._logs.append(log)
        copy = self._folder / "copy"
        copy.mkdir()
        for name in ("bigpe.db", "bigpe.db-wal"):  # what a new process would find
            if (self._folder / name).exists():
                shutil.copy(self._folder / name, copy / name)
        database = copy / "bigpe.db"
        self._judge_database(database)
        if not self._judge_promises(database) <= self._wanted.transcript:
            self.diverged("a message that the undisturbed run does not have")
        effects = _select(database, "SELECT kind, request FROM effect")
        self._committed.append({effect_key(kind, json.loads(body)) for kind, body in effects})
        shutil.rmtree(copy)

    def ended(self, log: Path) -> None:
        """Judge the run's end; `log`: the marks of the process that came so far."""
        self._logs.append(log)
        database = self._folder / "bigpe.db"
        self._judge_database(database)
        self._judge_promises(database)
        end = outcome(self._folder)
        if end != self._wanted:
            names = [item.name for item in fields(end)]
            parts = [n for n in names if getattr(end, n) != getattr(self._wanted, n)]
            self.diverged(f"another end: {', '.join(parts)}")
        self._judge_pictures(database)
        self._judge_calls()

    def diverged(self, text: str) -> None:
        """Count a run that did not go as the undisturbed one did."""
        self._found.diverged += 1
        self._note(text)

    def _judge_database(self, database: Path) -> None:
        self._found.checked += 1
        output = _select(database, "PRAGMA integrity_check")
        version = _select(database, "PRAGMA user_version")[0][0]
        tables = _select(database, "SELECT count(*) FROM sqlite_master WHERE name = 'chaos'")[0][0]
        whole = not tables or _select(database, "SELECT count(*) FROM chaos") == [(ROWS,)]
        if output != [("ok",)] or tables != version - THIS_VERSION or not whole:
            self._note(f"{output}, schema {version}, {tables} new tables, whole: {whole}")
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
