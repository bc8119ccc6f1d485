"""docs/roles.md, executed: its code is written to files and its commands are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOC = Path(__file__).resolve().parents[2] / "docs/roles.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC.read_text("utf-8"), re.DOTALL)


def test_the_example_code_is_short() -> None:
    code = [line for kind in ("python", "toml", "console") for b in blocks(kind)
            for line in b.splitlines() if line.strip()]  # fmt: skip
    assert len(code) < 60


@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "my_roles.py").write_text("".join(blocks("python")))
    (tmp_path / "bigpe.toml").write_text(blocks("toml")[0])
    command = shutil.which("bigpe", path=str(Path(sys.executable).parent))
    assert command is not None
    told: list[str] = []
    for line in "".join(blocks("console")).splitlines():
        words = line.removeprefix("$ ").split()
        environment = dict(os.environ)
        if "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        done = subprocess.run(
            [command, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    check, run, said, decided = told
    assert "roles.cheer" in check and "is valid" in check
    assert "all 1 rounds are done" in run
    assert "after round 1 the best is" in said
    assert "over 3 words" in decided, "no instruction of the Modifier has three words"
