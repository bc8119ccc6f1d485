"""The layout check passes on this repository and finds each kind of fault in another."""

from __future__ import annotations

from pathlib import Path

import layout_check
import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = """
[tool.setuptools]
packages = ["bigpe", "bigpe.agents", "bigpe.agents.statistics", "bigpe.agents.evidence"]
[tool.setuptools.package-dir]
bigpe = "runtime/root"
"bigpe.agents" = "agents"
[[tool.importlinter.contracts]]
containers = ["bigpe.agents"]
layers = ["actors", "bandit | reasoning", "evidence", "statistics"]
"""
DIAGRAM = """# Page

```text
statistics    means
evidence      terms
├ bandit      policies
└ reasoning   rewriting
actors        messages
```
"""
TABLE = """| package | holds |
|---|---|
| `agents/statistics`, `agents/evidence` | means |
| `agents/reasoning` | rewriting |
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project without a fault."""
    for folder in (
        "agents/statistics",
        "agents/evidence",
        "runtime/root",
        "services",
        "prompts",
        "docs",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("agents", "agents/statistics", "agents/evidence", "runtime/root"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "docs/concepts.md").write_text(DIAGRAM, "utf-8")
    (tmp_path / "CONTRIBUTING.md").write_text(TABLE)
    return tmp_path


def test_this_repository_has_no_fault() -> None:
    assert layout_check.faults(ROOT) == []


def test_a_project_without_faults_passes(project: Path) -> None:
    assert layout_check.faults(project) == []


def test_each_fault_is_one_line(project: Path) -> None:
    for number in range(11):
        (project / f"agents/evidence/module_{number}.py").touch()
    (project / "services/long.py").write_text("x = 1\n" * 401)
    (project / "runtime/root/slow.py").write_text(
        "def f():\n" + '    """Doc."""\n' + "    x = 1\n" * 50
    )
    (project / "agents/forgotten").mkdir()
    (project / "agents/forgotten/__init__.py").touch()
    swapped = DIAGRAM.replace("evidence ", "actors ", 1).replace(
        "\nactors        m", "\nevidence m"
    )
    (project / "docs/concepts.md").write_text(swapped, "utf-8")
    (project / "CONTRIBUTING.md").write_text("| `agents/evidence`, `agents/statistics` | x |\n")
    places = [fault.partition(":")[0] for fault in layout_check.faults(project)]
    assert places == [
        "agents/evidence",
        "runtime/root/slow.py",
        "services/long.py",
        "agents/forgotten",
        "docs/concepts.md",
        "CONTRIBUTING.md",
    ]
