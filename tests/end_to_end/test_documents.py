"""README.md and docs/, carried out: every command, program and configuration that they show."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from support.documents import Block, Reader
from support.paths import ROOT

from docs_site.blocks import LANGUAGES, blocks, goes_on_from, not_run  # isort: skip

DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "results" not in page.parts)
NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
SHOWN = (*LANGUAGES, "text", "json", "yaml")
"""Languages that a block may have; one without a language would escape the tests."""
README = {
    "make demo": "it is `make demo` and `make test`",
    ". .venv/bin/activate": "the tutorial runs these commands, on a smaller run",
    "import bigpe": "twelve rounds take minutes; docs/refining.md runs a program",
}
"""Blocks of README.md that are not run, by their beginning, and why."""


LINKING = [*sorted(ROOT.glob("*.md")), *DOCS.rglob("*.md")]

NOT_RUN = 14
"""Blocks of docs/ with a reason not to be run; the site lists them under Reference."""


def roots() -> list[str]:
    return [n for n, page in zip(NAMES, PAGES, strict=True) if not goes_on_from(page) and run(page)]


def run(page: Path) -> list[Block]:
    wanted = [b for b in blocks(page) if b.language in LANGUAGES or b.says.keys() & {"file"}]
    return [block for block in wanted if "not run" not in block.says]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", roots())
def test_a_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    """With the pages that go on from it, each in a copy of the folder that it leaves."""
    first = tmp_path / "first"
    first.mkdir()
    reader = Reader(first)
    for block in run(DOCS / name):
        reader.follow(block)
    for page in PAGES:
        if goes_on_from(page) != name:
            continue
        copy = tmp_path / page.stem
        shutil.copytree(reader.at, copy)
        other = Reader(copy)
        for block in run(page):
            other.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_has_a_language_that_is_known(page: Path) -> None:
    for block in blocks(page):
        assert block.language in SHOWN, f"{block.place}: {block.language!r}"


def test_readme_shows_valid_configurations_and_says_what_is_not_run(tmp_path: Path) -> None:
    left = dict(README)
    for block in blocks(ROOT / "README.md"):
        start = next((start for start in left if block.text.startswith(start)), None)
        if start is not None:
            del left[start]
        elif block.language in LANGUAGES:
            Reader(tmp_path).follow(block)
    assert not left, "README.md no longer has these blocks"


def test_the_list_of_what_is_not_run_is_known() -> None:
    """A block that is newly left out is a decision: change the count with it."""
    found = not_run(PAGES)
    text = "\n".join(f"{block.place}: {block.says['not run']}" for block in found)
    assert len(found) == NOT_RUN, text


@pytest.mark.parametrize("page", LINKING, ids=[str(page.relative_to(ROOT)) for page in LINKING])
def test_links_lead_somewhere_in_the_repository_too(page: Path) -> None:
    """The site's own links are checked when it is built; this is for who reads the files."""
    for token in MarkdownIt().enable("table").parse(page.read_text("utf-8")):
        for inner in token.children or ():
            address = inner.attrGet("href") or inner.attrGet("src")
            if address and not re.match(r"[a-z]+:", str(address)):
                path = unquote(str(address).partition("#")[0])
                assert not path or (page.parent / path).exists(), f"{page}: {address}"


def test_a_role_needs_little() -> None:
    displayed = [b for b in blocks(DOCS / "roles.md") if b.language in LANGUAGES]
    lines = [line for block in displayed for line in block.text.splitlines() if line.strip()]
    assert len(lines) < 60, re.sub(r"\s+", " ", "a tutorial of this length is not read")
