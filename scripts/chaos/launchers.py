"""Where a run's processes are started from, to be killed; used by scripts/chaos/ and its test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

SCRIPTS = Path(__file__).resolve().parents[1]
LATEST_S = 300.0


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
    path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


class ForkedStage:
    """Forks of one warm interpreter, for runs on fakes."""

    embedded = False
    sabotage = ""
    """A fault of the product to be found: "loses" records, "repays" calls."""

    def __enter__(self) -> ForkedStage:
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-m", "chaos.killable_run", "serve"],
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
        command = [sys.executable, "-P", "-m", "chaos.killable_run", json.dumps(job)]
        self._process = subprocess.Popen(command, env=_environment())
        return self._process.pid

    def wait(self) -> int:
        return self._process.wait(LATEST_S)


def job_for(
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
