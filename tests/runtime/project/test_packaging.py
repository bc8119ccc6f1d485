"""The package is what pyproject.toml says, and nothing else can be imported by accident."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from support.paths import ROOT

TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]


def test_every_package_folder_is_listed() -> None:
    """A folder missing from the list works in a checkout and is silently not in the wheel."""
    folders = {name: ROOT / folder for name, folder in TABLE["package-dir"].items()}
    found = {"bigpe"}
    for name, folder in folders.items():
        if "." not in name:
            continue
        for file in folder.rglob("__init__.py"):
            if file.parent != folder and file.parent in folders.values():
                continue  # it has a name of its own
            inner = file.parent.relative_to(folder).parts
            found.add(".".join((name, *inner)))
    assert found == set(TABLE["packages"])


def test_nothing_is_importable_by_a_bare_name(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u, sys\n"
        "sys.exit(any(u.find_spec(n) for n in ('agents', 'runtime', 'services', 'prompts')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_the_public_names_are_there() -> None:
    import bigpe

    for name in bigpe.__all__:
        assert getattr(bigpe, name) is not None


def test_importing_bigpe_is_cheap() -> None:
    code = "import bigpe, sys; sys.exit('torch' in sys.modules or 'autogen_core' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
