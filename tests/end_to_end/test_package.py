"""The sdist, and the wheel built from it, hold all that a user needs: installed and run.

`make smoke` does so in a fresh environment with all dependencies; here those of the tests serve.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from support.paths import ROOT

NOT_SOURCE = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "demo")
pytestmark = pytest.mark.timeout(900)


def python(*words: str, at: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *words], cwd=at, env=os.environ | variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_built_wheel_runs_from_anywhere(tmp_path: Path) -> None:
    source, built, installed = (tmp_path / name for name in ("source", "built", "installed"))
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    python("-m", "build", "--no-isolation", "--outdir", str(built), str(source), at=tmp_path)
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "services/models/embedded/STATE.md"} <= names
    words = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    python("-m", "pip", "install", *words, "--target", str(installed), str(wheel), at=tmp_path)

    def bigpe(*command: str) -> str:
        return python("-m", "bigpe", *command, at=tmp_path, PYTHONPATH=str(installed))

    where = "import bigpe; print(bigpe.__file__)"
    assert python("-c", where, at=tmp_path, PYTHONPATH=str(installed)).startswith(str(installed))
    bigpe("init", "project", "--template", "embedded")
    few = ("rounds=1", "batch_size=1", "pilot_prompts=2", "concurrency=1")
    settings = [part for item in few for part in ("--set", f"run.{item}")]
    result = bigpe("run", "-p", "project", *settings, "--set", "render.steps=2", "--json")
    assert json.loads(result)["instructions"]
    assert bigpe("export", "main", "-p", "project", "--form", "html", "--json")
