"""Reads prompts from text, Markdown lists and folders of caption files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.readers.rows import Row, line_row
from bigpe.services.prompt_data.readers.sources import Source

CAPTIONS = (".txt", ".caption")
"""Suffixes of the caption files that trainers read."""
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,6}[.)])\s+(?P<text>.*)")


def read_lines(source: Source, column: str | None) -> Iterator[Row]:
    """Each line is a prompt. Lines that begin with `# ` are comments."""
    for number, line in source.lines():
        yield line_row(number, line)


def read_markdown(source: Source, column: str | None) -> Iterator[Row]:
    """Each item of a list is a prompt; other text is not. Indented lines belong to their item."""
    item: Row | None = None
    found = False
    for number, line in source.lines():
        if match := _ITEM.match(line):
            if item:
                yield item
            item, found = Row(number, match["text"].strip()), True
        elif item and line.strip() and line[0] in " \t":
            item = item._replace(value=f"{item.value} {line.strip()}")
        else:
            if item:
                yield item
            item = None
            yield Row(number, line.rstrip("\r\n"), "not an item of a list", skipped=True)
    if item:
        yield item
    if not found:
        raise DataError(
            f"{source.path} has no list; begin each prompt with `- `, or name the file .txt if "
            "each line is a prompt"
        )


def read_folder(folder: Path) -> Iterator[Row]:
    """Each caption file is one prompt, as training sets have one beside each image."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in CAPTIONS and not path.name.startswith(".") and path.is_file()
    )
    if len(files) < 2:
        raise DataError(
            f"{folder} is a folder without caption files (one .txt for each image); name a file"
        )
    for number, path in enumerate(files, start=1):
        lines = [] if path.stat().st_size == 0 else [line for _, line in Source(path).lines()]
        text = " ".join(" ".join(lines).split())
        fault = None if text else f"{path.relative_to(folder)} is empty"
        yield Row(number, text, fault)
