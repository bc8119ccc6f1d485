"""Make build/tree/bigpe, a tree of links for static tools (docs/decisions/0001-layout.md)."""

import shutil
import tomllib
from pathlib import Path

base = Path(__file__).resolve().parents[1]
table = tomllib.loads((base / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
mapped = {base / folder for folder in table.values()}
shutil.rmtree(base / "build/tree", ignore_errors=True)
for name, folder in table.items():
    package = base / "build/tree" / name.replace(".", "/")
    package.mkdir(parents=True, exist_ok=True)
    for entry in (base / folder).iterdir():
        # A folder that is mapped itself has one name only.
        if entry not in mapped and entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
