"""Ctrl-C ends every command that serves, without an error, whatever it was doing just then."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest
from benchmarks.browser import Served
from support.forked import ForkedProcess
from support.interrupted_command import interrupted_command
from support.worker_servers import TOKEN

from bigpe.testing.runs import run_fake

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


def start(project: Path, command: str, places: str) -> ForkedProcess:
    words = (places, *command.split(), "-p", str(project), "--port", "0")
    environment = os.environ | {"BIGPE_WORKER_TOKEN": TOKEN, "TMPDIR": str(project)}
    return ForkedProcess(interrupted_command, *words, environment=environment)


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
