"""Ctrl-C ends every command that serves, without an error, whatever it was doing just then."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.browser import Served
from support.worker_servers import TOKEN

from bigpe.testing.runs import run_fake

INTERRUPTED = """
import os, signal, sys
from functools import wraps
from importlib import import_module

def interrupted(place):
    module, _, name = place.partition(":")
    owner, _, method = name.partition(".")
    cls = getattr(import_module(module), owner)
    plain = getattr(cls, method)

    @wraps(plain)
    async def then(*given):
        os.kill(os.getpid(), signal.SIGINT)
        return await plain(*given)

    setattr(cls, method, then)

for place in sys.argv.pop(1).split():
    interrupted(place)
from bigpe.runtime.cli import main
main()
"""
"""The command in a process of its own that gets a SIGINT wherever `place`s are called."""

OPENING = "bigpe.services.store.database:Store.__aenter__"
LOADING = "bigpe.services.workers.endpoint:WorkerEndpoint.open"
STARTING = "uvicorn.lifespan.on:LifespanOn.startup"
ENDING = "uvicorn.lifespan.on:LifespanOn.shutdown"
ADDRESS = re.compile(r'http://[^\s"]+')


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    asyncio.run(run_fake(folder))
    (folder / "bigpe.toml").write_text("[render]\nsteps = 2\nthreads = 1\n")
    return folder


def start(project: Path, command: str, places: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-c", INTERRUPTED, places, *command.split(), "-p", str(project)]
    return subprocess.Popen(
        [*words, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"BIGPE_WORKER_TOKEN": TOKEN, "TMPDIR": str(project)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "places", "requests"),
    [("view --json", ENDING, True), ("view --json", "", False), ("rate --json", "", False)],
)
def test_what_is_announced_is_there_and_ends_at_once(
    project: Path, command: str, places: str, requests: bool
) -> None:
    """Where a page was asked for, a second Ctrl-C comes while the server ends."""
    with start(project, command, places) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        if requests:
            assert asyncio.run(Served(url).get()).status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("command", "place", "code", "expected"),
    [
        ("view", OPENING, 0, ""),
        ("view", STARTING, 0, ""),
        ("serve render", LOADING, 1, "\nAborted!\n"),
        ("serve render", STARTING, 0, ""),
    ],
)
def test_one_that_is_interrupted_early_announces_nothing(
    project: Path, command: str, place: str, code: int, expected: str
) -> None:
    with start(project, command, place) as process:
        out, err = process.communicate()
    assert (process.returncode, out, err) == (code, "", expected)
    assert not ADDRESS.search(out + err)
    assert not list(project.glob("bigpe-worker-*")), "a worker leaves nothing behind"
