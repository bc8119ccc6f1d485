"""Check names in the code: exit 1 and name each place that uses a banned identifier.

    python -P scripts/lint_identifiers.py FOLDER...

A banned identifier says nothing about what it holds (CONTRIBUTING.md, rules of prose, no. 4).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

BANNED = frozenset({"told", "said", "one", "known", "asked", "shown"})


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each variable, argument, function and class that the code defines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield node.lineno, name
            case _:
                pass


def faults(path: Path) -> list[str]:
    """One line for each banned name that the file defines."""
    tree = ast.parse(path.read_text("utf-8"))
    return [f"{path}:{line}: {name}" for line, name in bound_names(tree) if name in BANNED]


def main() -> int:
    """Print the places; the exit code is 1 if there are any."""
    files = sorted(path for folder in sys.argv[1:] for path in Path(folder).rglob("*.py"))
    found = [fault for path in files for fault in faults(path)]
    print("\n".join(found) or f"names of {len(files)} files are in order")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
