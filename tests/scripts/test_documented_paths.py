"""Each file and each dotted name that documentation, docstrings or comments mention exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import pytest
from support.paths import ROOT

SOURCES = (
    "*.md",
    "Makefile",
    "mkdocs.yml",
    "pyproject.toml",
    "docs/*.md",
    "docs/decisions/*.md",
    "docs/reference/*.md",
    "agents/**/*.py",
    "runtime/**/*.py",
    "services/**/*.py",
    "prompts/*.py",
    "scripts/**/*.py",
)
NAME = re.compile(r"\bbigpe(?:\.(?:agents|runtime|services|prompts|integrations|testing))[.\w]*\w")
PATH = re.compile(
    r"(?<![\w/.<-])(?:[\w*-]+/)+[\w.*-]+\.(?:py|toml|html|sql|css|js|j2|txt|jsonl|md)(?![\w/])"
)
PLACEHOLDER = re.compile(r"[A-Z]{3,}")
FOLDERS = ("agents", "runtime", "services", "prompts", "scripts", "tests", "docs")
"""Other paths are a user's, or another program's."""
OF_EARLIER_RELEASES = {"scripts/check_official_scores.py"}
"""Files that CHANGELOG.md names although they are gone."""


def sources() -> list[Path]:
    return sorted({path for pattern in SOURCES for path in ROOT.glob(pattern)})


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    try:
        if find_spec(name) is not None:
            return True
    except ImportError:
        pass
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def missing_paths(source: Path) -> Iterator[str]:
    """Paths below one of FOLDERS, and links of a page, without a file."""
    for path in sorted(set(PATH.findall(source.read_text("utf-8"))) - OF_EARLIER_RELEASES):
        ours = path.partition("/")[0] in FOLDERS and not PLACEHOLDER.search(path)
        if ours and not any(next(place.glob(path), None) for place in (ROOT, source.parent)):
            yield path


@pytest.mark.parametrize("source", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_mentioned_exists(source: Path) -> None:
    names = set(NAME.findall(source.read_text("utf-8")))
    missing = [name for name in sorted(names) if not exists(name)]
    missing += missing_paths(source)
    assert not missing, f"{source.relative_to(ROOT)} mentions {', '.join(missing)}"
