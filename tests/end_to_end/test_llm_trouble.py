"""A run whose language model cannot be reached says so, and knows of no best instruction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_refused_endpoint_is_named_and_nothing_is_called_best(tmp_path: Path) -> None:
    settings = (
        "run.rounds=1",
        "run.batch_size=1",
        "run.pilot_prompts=2",
        "run.outage_minutes=0",
        'llm.default.provider="autogen_ext.models.openai.OpenAIChatCompletionClient"',
        'llm.default.config.model="gpt-4o-mini"',
        'llm.default.config.base_url="http://127.0.0.1:9/v1"',
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    program = [sys.executable, "-P", "-m", "bigpe"]
    subprocess.run([*program, "init", str(tmp_path), "--template", "embedded"], check=True)
    command = [*program, "run", "-p", str(tmp_path), *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1, done.stderr
    assert "http://127.0.0.1:9/v1: no connection" in done.stderr
    assert "no round gave a result" in done.stderr
    assert "best:" not in done.stdout
