"""Make build/tree/bigpe, a tree of links for static tools (docs/decisions/0001-layout.md)."""

import shutil
import tomllib
from pathlib import Path

base = Path(__file__).resolve().parents[1]
table = tomllib.loads((base / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
shutil.rmtree(base / "build/tree", ignore_errors=True)
(base / "build/tree/bigpe").mkdir(parents=True)
for name, folder in table.items():
    if "." in name:
        links = [(base / "build/tree" / name.replace(".", "/"), base / folder)]
    else:
        files = [f for f in (base / folder).iterdir() if f.is_file()]
        links = [(base / "build/tree" / name / f.name, f) for f in files]
    for link, target in links:
        link.symlink_to(target)
