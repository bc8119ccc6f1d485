"""Runs a module of this folder: `python scripts benchmarks.bench_store --quick`.

Python puts a folder that it runs on the import path, so the modules import each other by package:
`from benchmarks.figures import say`. The repository's root stays off the path; with it there,
`import agents` would load a second copy of `bigpe.agents`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def modules() -> list[str]:
    """Names of the modules that have a command line."""
    starts = 'if __name__ == "__main__":'
    files = [file for file in FOLDER.glob("*/**/*.py") if starts in file.read_text("utf-8")]
    names = {".".join(file.relative_to(FOLDER).with_suffix("").parts) for file in files}
    return sorted(name.removesuffix(".__main__") for name in names)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in modules():
        sys.exit("run: python scripts MODULE [OPTION ...]\n" + "\n".join(modules()))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
