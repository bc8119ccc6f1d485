"""The command line on the embedded models: a real run, interrupted, killed and repeated."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from support.runs import transcript

from bigpe.runtime.project import Project

LATEST_S = 240.0
SMALL = (
    *("--set", "run.rounds=2", "--set", "run.batch_size=2", "--set", "run.pilot_prompts=2"),
    *("--set", "run.concurrency=1", "--set", "render.steps=2"),
)
pytestmark = pytest.mark.timeout(900)


def bigpe(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "bigpe", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "bigpe", "run", "-p", str(folder), *SMALL]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def project(folder: Path) -> Path:
    made = bigpe("init", str(folder), "--template", "embedded")
    assert made.returncode == 0, made.stderr
    return folder


def wait_for_messages(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the run has committed `count` messages."""
    deadline = time.monotonic() + LATEST_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if (folder / "bigpe.db").exists() and _count(folder) >= count:
            return
        time.sleep(0.05)
    raise TimeoutError(f"no {count} messages in {LATEST_S} s")


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What the process tells on stderr up to the line with these words."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def _count(folder: Path) -> int:
    try:
        return len(transcript(folder))
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("embedded") / "whole")
    done = bigpe("run", "-p", str(folder), *SMALL)
    assert done.returncode == 0, done.stderr
    assert "stopped: " in done.stdout
    return folder


def test_a_run_on_the_embedded_models_can_be_read_and_seen(undisturbed: Path) -> None:
    told = bigpe("inspect", "-p", str(undisturbed))
    assert told.returncode == 0, told.stderr
    assert "gain" in told.stdout
    picture = Project(undisturbed).sheet("main")
    sheet = bigpe("sheet", "-p", str(undisturbed), "--prompts", "2")
    assert sheet.returncode == 0, sheet.stderr
    assert len(Image.open(picture).convert("RGB").getcolors(1 << 24) or []) > 100


def test_the_best_instruction_refines_a_prompt(undisturbed: Path) -> None:
    refined = bigpe("refine", "-p", str(undisturbed), "a castle in the snow")
    assert refined.returncode == 0, refined.stderr
    assert "castle" in refined.stdout
    assert bigpe("refine", "-p", str(undisturbed), "").returncode == 2


def test_interrupted_then_killed_it_resumes_to_the_same_end(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = project(tmp_path / "again")
    whole = transcript(undisturbed)
    first = start(folder)
    wait_for_messages(folder, len(whole) // 3, first)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=LATEST_S)
    assert first.returncode == 130, said
    assert "bigpe resume" in said
    command = [sys.executable, "-P", "-m", "bigpe", "resume", "-p", str(folder)]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_messages(folder, 2 * len(whole) // 3, second)
    os.kill(second.pid, signal.SIGKILL)
    second.communicate(timeout=LATEST_S)
    done = bigpe("resume", "-p", str(folder))
    assert done.returncode == 0, done.stderr
    assert transcript(folder) == whole


def test_the_second_interrupt_stops_at_once_and_loses_nothing(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = project(tmp_path / "again")
    whole = transcript(undisturbed)
    with start(folder) as process:
        wait_for_messages(folder, len(whole) // 3, process)
        process.send_signal(signal.SIGINT)
        said = read_until(process, "press Ctrl-C again")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said += process.stderr.read()
        assert process.wait(LATEST_S) == 130, said
    assert "bigpe resume" in said and "Traceback" not in said
    assert transcript(folder) < whole
    done = bigpe("resume", "-p", str(folder))
    assert done.returncode == 0, done.stderr
    assert transcript(folder) == whole
