"""Folders of the repository, and the import path of subprocesses that tests start."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
SCRIPTS = ROOT / "scripts"


def import_path(*folders: Path | str) -> str:
    """A PYTHONPATH with `folders`, the packages of tests/ and scripts/, and what was set before."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [*map(str, folders), str(TESTS), str(SCRIPTS), inherited]))
