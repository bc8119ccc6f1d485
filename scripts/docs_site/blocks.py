"""The fenced blocks of a Markdown page, and what its comments say of them.

A block is carried out by the tests as a reader would (tests/end_to_end/test_documents.py), unless
a comment right above it says otherwise:

    <!-- not run: REASON -->        it cannot be, here
    <!-- file: NAME -->             it is the file NAME of the reader's folder
    <!-- added to: NAME -->         it goes to the end of that file
    <!-- not compared: REASON -->   it is run; what it prints differs from machine to machine
    <!-- with: SERVER -->           it is run beside a server of the tests, in place of the real one

A page that begins with `<!-- goes on from: PAGE -->` begins in the folder that PAGE left.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

LANGUAGES = ("console", "sh", "python", "toml")
"""Languages that are carried out; others are only shown."""
SAYS = ("not run", "file", "added to", "not compared", "with")
GOES_ON = "goes on from"
_COMMENT = re.compile(r"<!--\s*([a-z ]+?):\s*(.*?)\s*-->", re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    """Of its fence, from 1."""
    language: str
    text: str
    says: dict[str, str]
    """The comments above it, by their first words."""

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of the page, in order. ValueError for a comment that says nothing known."""
    found: list[Block] = []
    says: dict[str, str] = {}
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if token.type == "html_block":
            says |= _said(page, token.content)
        elif token.type == "fence":
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page, line, token.info.strip(), token.content, says))
            says = {}
        elif token.content:
            says = {}
    return found


def _said(page: Path, html: str) -> dict[str, str]:
    messages = {what: re.sub(r"\s+", " ", result) for what, result in _COMMENT.findall(html)}
    for what, expected in messages.items():
        if what not in (*SAYS, GOES_ON):
            raise ValueError(f"{page}: a comment says {what!r}; known are {', '.join(SAYS)}")
        if not expected:
            raise ValueError(f"{page}: <!-- {what}: --> gives no reason or name")
    return messages


def goes_on_from(page: Path) -> str:
    """The page in whose folder this one begins; "": in an empty one."""
    for what, expected in _COMMENT.findall(page.read_text("utf-8")):
        if what == GOES_ON:
            return str(expected)
    return ""


def not_run(pages: list[Path]) -> list[Block]:
    """The blocks of languages that would be carried out, were it not for a reason."""
    return [
        block
        for page in pages
        for block in blocks(page)
        if block.language in LANGUAGES and "not run" in block.says
    ]
