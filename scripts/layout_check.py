"""Check the layout of the product: one line for each fault, exit code 1 if there is one.

    python -P scripts/layout_check.py [PROJECT]

- A folder of the product has at most 10 entries: files and folders, `__init__.py` apart. Data
  folders (weights, templates, static files) count like any other.
- A module has at most 400 lines. A function has at most 50, without its docstring: a description of
  each argument must not divide a function.
- pyproject.toml lists every package, and only packages.
- docs/concepts.md draws the packages of agents/ in the order of the import-linter contract.
- The table of CONTRIBUTING.md names the packages of each folder in the order of its contract.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDERS = ("agents", "runtime", "services", "prompts")
MAX_ENTRIES = 10
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
DIAGRAM = re.compile(r"^```text\n(statistics .*?)^```", re.DOTALL | re.MULTILINE)
"""The diagram of docs/concepts.md; it begins with the lowest package."""
TABLE_ROW = re.compile(r"^\| (`\w+/[^|]+)\|", re.MULTILINE)
"""A row of CONTRIBUTING.md, of which the first column names packages."""


def is_entry(path: Path) -> bool:
    """Whether the path counts as an entry of its folder."""
    return path.name not in ("__init__.py", "__pycache__") and not path.name.startswith(".")


def folders_of(root: Path) -> Iterator[Path]:
    """The folders of the product."""
    for top in FOLDERS:
        yield root / top
        yield from (
            path
            for path in sorted((root / top).rglob("*"))
            if path.is_dir() and "__pycache__" not in path.parts
        )


def crowded_folders(root: Path) -> Iterator[str]:
    """Folders with too many entries."""
    for folder in folders_of(root):
        count = sum(map(is_entry, folder.iterdir()))
        if count > MAX_ENTRIES:
            yield f"{folder.relative_to(root)}: {count} entries, at most {MAX_ENTRIES}"


def long_code(root: Path) -> Iterator[str]:
    """Modules and functions with too many lines."""
    for path in sorted(path for top in FOLDERS for path in (root / top).rglob("*.py")):
        name, text = path.relative_to(root), path.read_text("utf-8")
        if (lines := len(text.splitlines())) > MAX_MODULE_LINES:
            yield f"{name}: {lines} lines, at most {MAX_MODULE_LINES}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1 - docstring_lines(node)
                if lines > MAX_FUNCTION_LINES:
                    where = f"{name}:{node.lineno}: {node.name}"
                    yield f"{where}: {lines} lines, at most {MAX_FUNCTION_LINES}"


def docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Number of lines of the function's docstring, 0 without one."""
    if ast.get_docstring(function, clean=False) is None:
        return 0
    first = function.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def unlisted_packages(root: Path, pyproject: dict[str, Any]) -> Iterator[str]:
    """Differences between the folders that are packages and pyproject's list."""
    listed = set(pyproject["tool"]["setuptools"]["packages"])
    mapped = {
        name: root / folder
        for name, folder in pyproject["tool"]["setuptools"]["package-dir"].items()
    }
    listed_folders = {folder_of(name, mapped) for name in listed}
    packages = {path.parent for top in FOLDERS for path in (root / top).rglob("__init__.py")}
    for folder in sorted(packages - listed_folders):
        yield f"{folder.relative_to(root)}: not in the packages of pyproject.toml"
    for folder in sorted(listed_folders - packages):
        yield f"{folder.relative_to(root)}: in the packages of pyproject.toml, has no __init__.py"


def folder_of(package: str, mapped: dict[str, Path]) -> Path:
    """The folder of a package, by the nearest parent that pyproject maps."""
    parent = package
    while parent not in mapped:
        parent = parent.rpartition(".")[0]
    below = package.removeprefix(parent).strip(".")
    return mapped[parent] / below.replace(".", "/") if below else mapped[parent]


def layers_of(pyproject: dict[str, Any], folder: str) -> list[set[str]]:
    """The layers of the folder's import-linter contract, lowest first."""
    for contract in pyproject["tool"]["importlinter"]["contracts"]:
        if contract.get("containers") == [f"bigpe.{folder}"]:
            return [set(layer.split(" | ")) for layer in reversed(contract["layers"])]
    return []


def drawn_layers(page: str) -> list[set[str]]:
    """The layers of the diagram, lowest first; neighbours with a line before them are one layer."""
    found = DIAGRAM.search(page)
    layers: list[set[str]] = []
    joined = False
    for line in found.group(1).splitlines() if found else ():
        mark, name = line[0] in "├└", line.lstrip("├└ ").split()[0]
        if mark and joined:
            layers[-1].add(name)
        else:
            layers.append({name})
        joined = mark
    return layers


def undocumented_order(root: Path, pyproject: dict[str, Any]) -> Iterator[str]:
    """Differences between the documented order of packages and the contracts."""
    drawn = drawn_layers((root / "docs/concepts.md").read_text("utf-8"))
    wanted = layers_of(pyproject, "agents")
    if drawn != wanted:
        yield f"docs/concepts.md: the order is {as_text(drawn)}; the contract is {as_text(wanted)}"
    rows = TABLE_ROW.findall((root / "CONTRIBUTING.md").read_text("utf-8"))
    names = [name for row in rows for name in re.findall(r"`(\w+/\w+)`", row)]
    for folder in ("agents", "runtime", "services"):
        layers = layers_of(pyproject, folder)
        rank = {name: level for level, layer in enumerate(layers) for name in layer}
        named = [name.partition("/")[2] for name in names if name.startswith(f"{folder}/")]
        missing = {name for name in rank if (root / folder / name).is_dir()} - set(named)
        if missing:
            yield f"CONTRIBUTING.md: {folder}/ lacks {', '.join(sorted(missing))}"
        if unknown := [name for name in named if name not in rank]:
            yield f"CONTRIBUTING.md: {folder}/ has no {', '.join(unknown)}"
        elif [rank[name] for name in named] != sorted(rank[name] for name in named):
            yield f"CONTRIBUTING.md: the order of {folder}/ is {as_text(layers)}"


def as_text(layers: list[set[str]]) -> str:
    """The layers as text."""
    return " → ".join(" | ".join(sorted(layer)) for layer in layers) or "missing"


def faults(root: Path) -> list[str]:
    """One line for each fault of the layout."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    return [
        *crowded_folders(root),
        *long_code(root),
        *unlisted_packages(root, pyproject),
        *undocumented_order(root, pyproject),
    ]


def main() -> int:
    """Print the faults; the exit code is 1 if there are any."""
    found = faults(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
    print("\n".join(found) or "the layout is in order")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
