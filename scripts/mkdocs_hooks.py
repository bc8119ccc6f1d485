"""Hooks of mkdocs: the reference pages, and the list of decisions (mkdocs.yml names this file)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docs_site import blocks, reference

DECISIONS = "Decisions"
NOTE = "This page is filled from the code"
"""So begins what a page of the reference says to those who read it in the repository."""


def on_config(config: Any) -> Any:
    """Every decision stands in the navigation without being named twice."""
    folder = Path(config.docs_dir)
    for entry in config.nav:
        if DECISIONS in entry:
            entry[DECISIONS] = [f"decisions/{file.name}" for file in decisions(folder)]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill the pages of the reference; in the repository they only say where to look."""
    folder = Path(config.docs_dir)
    made = {
        "commands": reference.commands,
        "configuration": reference.configuration,
        "messages": reference.messages,
        "exit-codes": reference.exit_codes,
        "metrics": reference.metrics,
        "figures": lambda: reference.figures(folder / "figures"),
        "not-run": lambda: not_run(folder),
    }
    place = Path(page.file.src_uri)
    if place.parent.name != "reference":
        return markdown
    parts = [part for part in markdown.split("\n\n") if not part.startswith(NOTE)]
    if place.stem in made:
        parts.append(made[place.stem]())
    return "\n\n".join(parts)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The theme leaves its search dialog without a name."""
    unnamed = 'data-md-component="search" role="dialog"'
    return output.replace(unnamed, f'{unnamed} aria-label="Search"')


def decisions(folder: Path) -> list[Path]:
    """The decision pages, by number."""
    return sorted((folder / "decisions").glob("[0-9]*.md"))


def not_run(folder: Path) -> str:
    """A table of all blocks that the tests do not carry out, and why."""
    pages = sorted(folder.rglob("*.md"))
    rows = (
        (
            f"[{block.page.relative_to(folder)}](../{block.page.relative_to(folder)})",
            reference.code(block.text.strip().splitlines()[0].replace("`", "'")),
            block.says["not run"],
        )
        for block in blocks.not_run(pages)
    )
    return reference.table(("page", "begins with", "why"), rows)
