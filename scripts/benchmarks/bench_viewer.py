"""The viewer on a run of a million messages, and what axe finds on its pages: a JSON line a figure.

    python scripts benchmarks.bench_viewer [--quick] [--messages 1000000] [--repeats 5]

The messages are those of a real run on the fakes of the tests, said again and again for later
rounds, in a database under build/. Each repeat starts `bigpe view` anew and times the first page
that is asked of it (request sent to last byte received), in turn on the long run and on a short
one. The database's pages are in the file cache.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.browser import Served, pages_of, serving, tab
from benchmarks.figures import say
from bigpe.runtime.evaluation.pipeline import EvaluationSettings, evaluate
from bigpe.runtime.evaluation.rating import question_of
from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import RunReader
from bigpe.runtime.viewer.pages.rate import RatePages, Rater
from bigpe.runtime.viewer.server import LocalServer
from bigpe.services.core.values import digest
from bigpe.services.store.database import Store
from bigpe.testing.runs import open_fake_evaluated, run_fake

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench_viewer"
CONFIG: dict[str, Any] = {"run": {"rounds": 40, "batch_size": 5, "pilot_prompts": 3, "seed": 3}}
FIRST = ("", "transcript")
"""Pages that a reader comes to first."""
THEN = ("gallery", "lineage", "transcript?at=end&all=1", "transcript?q=golden", "transcript?q=zzz")
READ = """SELECT mid, run, type, sender, parent, round, body, ts, tokens, ms
    FROM message ORDER BY seq"""
ADD = """INSERT INTO message(mid, run, type, sender, parent, round, body, ts, tokens, ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def make_short() -> Path:
    """A run of 40 rounds."""
    folder = WORK / "short"
    shutil.rmtree(folder, ignore_errors=True)
    asyncio.run(run_fake(folder, CONFIG))
    return folder


def make_long(short: Path, messages: int) -> Path:
    """The short run's rounds, repeated until there are `messages` messages."""
    folder = WORK / "long"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(short, folder)
    connection = sqlite3.connect(folder / "bigpe.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    rows = connection.execute(READ).fetchall()
    rounds = [row for row in rows if row[5] > 0 and row[2] != "RunStopped"]
    connection.execute("DELETE FROM message WHERE type = 'RunStopped'")
    copies = max(0, (messages - len(rows)) // len(rounds))
    length = CONFIG["run"]["rounds"]
    for copy in range(1, copies + 1):
        connection.execute("BEGIN")
        connection.executemany(ADD, (later(row, copy, copy * length) for row in rounds))
        connection.execute("COMMIT")
        if copy % 50 == 0:
            note(f"{copy} of {copies} copies")
    start = connection.execute("SELECT mid, body FROM message WHERE type = 'RunStarted'").fetchone()
    body = start[1].replace(f'"rounds":{length},', f'"rounds":{length * (copies + 1)},', 1)
    connection.execute("UPDATE message SET body = ? WHERE mid = ?", (body, start[0]))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return folder


def later(row: tuple[Any, ...], copy: int, rounds: int) -> tuple[Any, ...]:
    """A message as it would be sent some rounds later."""
    mid, run, kind, sender, parent, round, body, *rest = row
    # The copy's number comes first: random ids would make the index slow to build.
    new_mid, new_parent = (f"{copy:06x}{digest(old)[:26]}" for old in (mid, parent))
    body = body.replace(mid, new_mid).replace(parent, new_parent)
    body = body.replace(f'"round":{round},', f'"round":{round + rounds},', 1)
    return (new_mid, run, kind, sender, new_parent, round + rounds, body, *rest)


@contextlib.contextmanager
def viewing(folder: Path) -> Iterator[str]:
    """`bigpe view` in a process of its own; its address."""
    command = [sys.executable, "-P", "-m", "bigpe", "view", "-p", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def seconds(url: str) -> float:
    start = time.perf_counter()
    with urlopen(url, timeout=600) as answer:
        answer.read()
    return time.perf_counter() - start


def time_pages(folder: Path) -> dict[str, float]:
    """Seconds of each first page on a fresh server, and of others after them."""
    found: dict[str, float] = {}
    for path in FIRST:
        with viewing(folder) as url:
            found[path] = seconds(url + path)
            if path == FIRST[-1]:
                found |= {other: seconds(url + other) for other in THEN}
    return found


def bench_first_page(messages: int, repeats: int) -> Path:
    short = make_short()
    long = make_long(short, messages)
    count = count_messages(long)
    note(f"{count} messages, {(long / 'bigpe.db').stat().st_size / 1e9:.2f} GB")
    times: list[dict[str, float]] = []
    floors: list[dict[str, float]] = []
    for index in range(repeats):
        floors.append(time_pages(short))
        times.append(time_pages(long))
        note(f"repeat {index + 1}: {times[-1]}")
    medians = {path: statistics.median(t[path] for t in times) for path in (*FIRST, *THEN)}
    floor = {path: statistics.median(t[path] for t in floors) for path in FIRST}
    worst = max(FIRST, key=lambda path: medians[path])
    text = ", ".join(f"{path or 'overview'} {value:.3f}" for path, value in medians.items())
    say(
        "first_page_seconds_million",
        round(medians[worst], 4),
        unit="s",
        n=repeats,
        lo=round(min(t[worst] for t in times), 4),
        hi=round(max(t[worst] for t in times), 4),
        how=f"{count} messages; the slower of overview and transcript, first request to a fresh "
        f"server; {medians[worst] / floor[worst]:.1f} times that of a run of "
        f"{count_messages(short)}; median, min and max; medians of all pages: {text}",
    )
    return short


def count_messages(folder: Path) -> int:
    connection = sqlite3.connect(folder / "bigpe.db")
    try:
        return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def rating(folder: Path) -> AsyncGenerator[Served]:
    """The page of `bigpe rate`, as one rater has it."""
    async with Store(folder / "bigpe.db") as store:
        reader = RunReader(store, "main")
        await reader.catch_up()
        question = await question_of(store, reader.facts, "main", "naive", reader.facts.best)
        pages = RatePages(Project(folder), store, Rater("main", "bench", question, 50))
        async with serving(LocalServer(pages.app(), writable=True)) as served:
            yield served


async def bench_access(folder: Path) -> None:
    connection = sqlite3.connect(folder / "bigpe.db")
    kinds = dict(connection.execute("SELECT type, min(mid) FROM message GROUP BY type").fetchall())
    connection.close()
    async with open_fake_evaluated(folder) as judged:
        await evaluate(judged, EvaluationSettings(prompts=6), lambda progress: None)
    paths = ["", "lineage?all=1", "gallery", "transcript", "transcript?at=end&all=1", "evaluation"]
    paths += [f"message/{mid}" for mid in kinds.values()]
    faults: list[str] = []
    async with (
        tab() as light,
        tab(dark=True, width=390) as dark,
        pages_of(folder) as pages,
        rating(folder) as questions,
    ):
        for item in (light, dark):
            for served, path in [(questions, ""), *((pages, path) for path in paths)]:
                await item.open(served, path)
                if report := await item.faults_of_access():
                    faults.append(f"{served.url}{path}: {report}")
    for fault in faults:
        note(fault)
    say(
        "axe_violations",
        len(faults),
        unit="pages",
        n=2 * (len(paths) + 1),
        how="axe-core on every page, that of `bigpe rate` and a message of every kind, light at "
        "1280 and dark at 390 pixels, in Chromium; pages with any violation",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20,000 messages, two repeats")
    given = parser.parse_args()
    messages, repeats = (20_000, 2) if given.quick else (given.messages, given.repeats)
    short = bench_first_page(messages, repeats)
    asyncio.run(bench_access(short))
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
