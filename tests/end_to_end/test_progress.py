"""What a person sees on a terminal while a run goes on."""

from __future__ import annotations

import os
import pty
import re
from pathlib import Path

import pytest
from support.fake_cli import start

from bigpe.agents.messages.core import PoolChanged
from bigpe.testing.runs import messages_of

SPENT = r"(\d+) renders, [\d,]+ LLM tokens, [\d.]+ USD"
FORECAST = re.compile(
    rf"{SPENT}; {SPENT} at its end after round (\d+) by its budget of llm calls, in \d+ s"
)


def shown_by(terminal: int) -> str:
    """All that was written to a terminal until it was closed, without the control sequences."""
    chunks: list[bytes] = []
    try:
        while chunk := os.read(terminal, 65536):
            chunks.append(chunk)
    except OSError:  # how Linux tells that nobody writes to it any more
        pass
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(chunks).decode())


def test_a_terminal_shows_about_where_a_run_will_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    ours, theirs = pty.openpty()
    limit = ("--set", "budget.llm_calls=50")  # each round makes as many
    process = start(tmp_path, "run", *limit, delay_s=0.05, stderr=theirs)
    os.close(theirs)
    displayed = shown_by(ours)
    os.close(ours)
    assert process.communicate()[0] and process.returncode == 0, displayed
    result = [tuple(map(int, found)) for found in FORECAST.findall(displayed)]
    assert result and result == sorted(result), "what was used only grows"
    pulls = messages_of(tmp_path, PoolChanged)
    assert len(pulls) < 8
    for used, renders, rounds in result:
        # A round does not begin if its calls might not fit: six for each of five texts, in the
        # worst case, where it makes seven.
        assert used < renders and abs(rounds - len(pulls)) <= 4
    assert result[-1][1] >= pulls[-1].used.renders, "it rather overstates"
