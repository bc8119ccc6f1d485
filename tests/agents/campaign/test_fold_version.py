"""A snapshot is void after any change of the code that the coordinator's state depends on."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

import bigpe.agents as agents
import bigpe.agents.campaign.campaign as campaign
import bigpe.agents.campaign.snapshot as snapshots
import bigpe.services.core.values as values


def tree_of(module: str) -> ast.Module:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return ast.parse(Path(spec.origin).read_text("utf-8"))


def imports_of(module: str) -> set[str]:
    """Modules of the product that this one imports, wherever in its text."""
    found: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bigpe."):
            found.add(node.module)
            spec = find_spec(node.module)
            if spec is not None and spec.submodule_search_locations is not None:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name for name in inside if find_spec(name) is not None}
    return found


def has_code(module: str) -> bool:
    """Whether it is more than the docstring of a package."""
    return any(not isinstance(statement, ast.Expr) for statement in tree_of(module).body)


def closure(start: str) -> set[str]:
    """The modules of bigpe.agents that `start` imports, and `start`."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [m for m in imports_of(module) if m.startswith(f"{agents.__name__}.")]
    return {module for module in found if has_code(module)}


def test_all_that_a_campaign_imports_is_part_of_the_version() -> None:
    needed = closure(campaign.__name__) | {values.__name__}
    assert len(needed) > 20
    assert needed - set(snapshots.FOLD_MODULES) == set()
    assert set(snapshots.FOLD_MODULES) - needed == set(), "a change of these voids no state"


@pytest.mark.parametrize("module", snapshots.FOLD_MODULES)
def test_a_change_of_any_of_its_modules_changes_the_version(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshots.fold_version()
    source_of = snapshots.source_of

    def edited(name: str) -> bytes:
        return source_of(name) + b"\n# edited" * (name == module)

    snapshots.fold_version.cache_clear()
    monkeypatch.setattr(snapshots, "source_of", edited)
    try:
        assert snapshots.fold_version() != before
    finally:
        snapshots.fold_version.cache_clear()
    monkeypatch.undo()
    assert snapshots.fold_version() == before


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        snapshots.source_of(f"{agents.__name__}.no_such_module")
