"""Hooks of mkdocs: the reference pages, and the list of decisions (mkdocs.yml names this file)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from docs_site import blocks, reference

DECISIONS = "Decisions"


def on_config(config: Any) -> Any:
    """Every decision stands in the navigation without being named twice."""
    folder = Path(config.docs_dir)
    for entry in config.nav:
        if DECISIONS in entry:
            entry[DECISIONS] = [f"decisions/{file.name}" for file in decisions(folder)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code."""
    from mkdocs.structure.files import File

    folder = Path(config.docs_dir)
    made = {
        "commands": reference.commands(),
        "configuration": reference.configuration(),
        "messages": reference.messages(),
        "exit-codes": reference.exit_codes(),
        "metrics": reference.metrics(),
        "figures": reference.figures(folder / "figures"),
        "not-run": not_run(folder),
    }
    for name, text in made.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def decisions(folder: Path) -> list[Path]:
    """The decision pages, by number."""
    return sorted((folder / "decisions").glob("[0-9]*.md"))


def not_run(folder: Path) -> str:
    """A page of all blocks that the tests do not carry out, and why."""
    pages = sorted(folder.rglob("*.md"))
    rows = (
        (
            f"[{block.page.relative_to(folder)}](../{block.page.relative_to(folder)})",
            reference.code(block.text.strip().splitlines()[0].replace("`", "'")),
            block.says["not run"],
        )
        for block in blocks.not_run(pages)
    )
    return (
        "# What is shown and not run\n\n"
        "`make test` carries out the commands and programs of these pages, and checks every "
        "configuration. These blocks it does not:\n\n"
        + reference.table(("page", "begins with", "why"), rows)
    )
