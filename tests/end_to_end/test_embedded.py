"""The command line on the embedded models: a real run, interrupted, killed and repeated."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from support.examples import EVERYTHING

from bigpe.runtime.project.paths import Project
from bigpe.testing.runs import transcript

LATEST_S = 240.0
ROUNDS = 2 if EVERYTHING else 1
"""A second round follows a gradient and a proposal of the embedded language model."""
SMALL = (
    *("--set", f"run.rounds={ROUNDS}", "--set", "run.batch_size=2"),
    *("--set", "run.pilot_prompts=2"),
    *("--set", "run.concurrency=1", "--set", "render.steps=2"),
)
pytestmark = pytest.mark.timeout(900)


def bigpe(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "bigpe", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def start(word: str, folder: Path, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "bigpe", word, "-p", str(folder), *settings]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def project(folder: Path) -> Path:
    made = bigpe("init", str(folder), "--template", "embedded")
    assert made.returncode == 0, made.stderr
    return folder


def wait_for_messages(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the run has committed `count` messages, and this process one of them."""
    count = max(count, _count(folder) + 1)
    deadline = time.monotonic() + LATEST_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if _count(folder) >= count:
            return
        time.sleep(0.05)
    raise TimeoutError(f"no {count} messages in {LATEST_S} s")


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What the process tells on stderr up to the line with these words."""
    assert process.stderr is not None
    output = ""
    while words not in output:
        line = process.stderr.readline()
        assert line, output
        output += line
    return output


def end_of_pause(process: subprocess.Popen[str]) -> str:
    """What is left on stderr of a process that was interrupted."""
    _, output = process.communicate(timeout=LATEST_S)
    assert process.returncode == 130, output
    return output


def _count(folder: Path) -> int:
    try:
        return len(transcript(folder)) if (folder / "bigpe.db").exists() else 0
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
    result = bigpe("inspect", "-p", str(undisturbed))
    assert result.returncode == 0, result.stderr
    assert "gain" in result.stdout
    picture = Project(undisturbed).sheet("main")
    sheet = bigpe("sheet", "-p", str(undisturbed), "--prompts", "2")
    assert sheet.returncode == 0, sheet.stderr
    assert len(Image.open(picture).convert("RGB").getcolors(1 << 24) or []) > 100


def test_the_best_instruction_refines_a_prompt(undisturbed: Path) -> None:
    refined = bigpe("refine", "-p", str(undisturbed), "a castle in the snow")
    assert refined.returncode == 0, refined.stderr
    assert "castle" in refined.stdout
    assert bigpe("refine", "-p", str(undisturbed), "").returncode == 2


def test_interrupted_stopped_and_killed_it_resumes_to_the_same_end(
    undisturbed: Path, tmp_path: Path
) -> None:
    """One run through all three, because each waits for the language model."""
    folder = project(tmp_path / "again")
    whole = transcript(undisturbed)
    quarter = len(whole) // 4
    word, settings = "run", SMALL
    if EVERYTHING:  # the second Ctrl-C below follows a first that pauses, too
        with start(word, folder, *settings) as process:
            wait_for_messages(folder, quarter, process)
            process.send_signal(signal.SIGINT)
            assert "bigpe resume" in end_of_pause(process)
        word, settings = "resume", ()
    with start(word, folder, *settings) as process:
        wait_for_messages(folder, 2 * quarter, process)
        process.send_signal(signal.SIGINT)
        output = read_until(process, "press Ctrl-C again")
        process.send_signal(signal.SIGINT)
        output += end_of_pause(process)
        assert "bigpe resume" in output and "Traceback" not in output
    assert transcript(folder) < whole
    with start("resume", folder) as process:
        wait_for_messages(folder, 3 * quarter, process)
        process.kill()
    done = bigpe("resume", "-p", str(folder))
    assert done.returncode == 0, done.stderr
    assert transcript(folder) == whole
