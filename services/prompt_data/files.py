"""Reads prompts from files of many formats; each row is accepted or rejected.

Content is never executed, unpickled or fetched. Files are read as a stream, save JSON documents;
only accepted and rejected rows stay in memory.
"""

from __future__ import annotations

import lzma
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as arrow

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.readers.columns import AmbiguousColumnError, ambiguous
from bigpe.services.prompt_data.readers.delimited import read_delimited
from bigpe.services.prompt_data.readers.json_files import read_json
from bigpe.services.prompt_data.readers.lines import read_folder, read_lines, read_markdown
from bigpe.services.prompt_data.readers.rows import Row, cell_values
from bigpe.services.prompt_data.readers.sources import COMPRESSED, Source
from bigpe.services.prompt_data.readers.tables import read_parquet, read_workbook

LONGEST = 2000
"""Maximum length of a prompt, characters."""
EXCERPT = 80
"""Characters of a rejected row that are kept."""
_UNSAFE = ("Cc", "Cs")
"""Unicode categories that are rejected: control characters and halves of surrogate pairs."""
_SPACES = "\t\n\r"
"""Control characters that are spaces."""
_UNREADABLE = (
    OSError, EOFError, arrow.ArrowException, lzma.LZMAError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""Errors of the operating system, of unpacking and of damaged files."""


class AcceptedPrompt(NamedTuple):
    """A prompt that was taken; `line` counts from 1 (of parquet: the row)."""

    text: str
    line: int


class RejectedPrompt(NamedTuple):
    """A row that was not taken, and why."""

    line: int
    text: str
    """Its beginning, at most `EXCERPT` characters, unsafe characters replaced by U+FFFD."""
    reason: str


class PromptFile(NamedTuple):
    """The rows of a file, with at least one accepted prompt."""

    accepted: tuple[AcceptedPrompt, ...]
    rejected: tuple[RejectedPrompt, ...]


class PromptRow(NamedTuple):
    """A row of a file in its place: a prompt, or what stands there and why it is no prompt."""

    line: int
    text: str
    """The prompt with single spaces; of a row without one, its text on one line."""
    fault: str | None = None
    skipped: bool = False
    """Whether the row is a blank line or a comment."""


_Reader = Callable[[Source, str | None], Iterator[Row]]


def read_prompts(path: Path, *, column: str | None = None) -> PromptFile:
    """The prompts of a file or of a folder of caption files.

    The suffix gives the format; compressed files and files without a suffix are recognised.
    `column` is for formats with columns.

    Prompts become NFC with single spaces (tabs and line breaks are spaces). Blank lines and
    comments (`# `) are skipped. Rejected: a row that is empty, not text, or broken; a prompt of
    more than 2,000 characters, with a control character (it is not removed: nobody meant it), or
    that came before.

    DataError when the file as a whole cannot be used: missing, unreadable, empty, not UTF-8 or
    UTF-16 (line and byte are named), without the column (its columns are listed) or with several,
    with a quote left open, a broken or too large file, or nothing accepted.
    """
    accepted: list[AcceptedPrompt] = []
    rejected: list[RejectedPrompt] = []
    seen: dict[str, int] = {}
    for row in read_rows(path, column=column):
        fault = row.fault
        if row.skipped:
            continue
        if fault is None and row.text in seen:
            fault = f"the same prompt as line {seen[row.text]}"
        if fault is None:
            seen[row.text] = row.line
            accepted.append(AcceptedPrompt(row.text, row.line))
        else:
            rejected.append(RejectedPrompt(row.line, _excerpt(row.text), fault))
    if not accepted:
        first = f"; the first: {rejected[0].reason}" if rejected else ""
        raise DataError(f"{path} holds no usable prompt ({len(rejected)} rejected{first})")
    return PromptFile(tuple(accepted), tuple(rejected))


def read_rows(
    path: Path, *, column: str | None = None, longest: int | None = LONGEST
) -> Iterator[PromptRow]:
    """Every row of a file in its order, repeated prompts, blank lines and comments included.

    `longest`: most characters of a prompt; None: no limit. Raises DataError as `read_prompts` does,
    save for a file without a usable prompt.
    """
    try:
        yield from prompt_rows(_raw_rows(path, column), longest=longest)
    except AmbiguousColumnError as error:
        raise ambiguous(path, error) from error
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {_first_line(error)}") from error


def prompt_rows(rows: Iterable[Row], *, longest: int | None = None) -> Iterator[PromptRow]:
    """The prompts in rows of any reader, checked."""
    for row in rows:
        if row.fault is not None:
            yield PromptRow(row.line, _shown_text(row.value), row.fault, row.skipped)
            continue
        for value in cell_values(row.value):
            text, fault = _clean(value, longest)
            yield PromptRow(row.line, _shown_text(value) if fault else text, fault)


def _raw_rows(path: Path, column: str | None) -> Iterator[Row]:
    if path.is_dir():
        return read_folder(path)
    _check(path)
    source = Source(path)
    return _reader(source)(source, column)


def _check(path: Path) -> None:
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path} is no ordinary file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")


def _first_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (reason.splitlines() or [type(error).__name__])[0]


# -- formats ---------------------------------------------------------------------------------------


READERS: dict[str, _Reader] = {
    ".txt": read_lines,
    ".text": read_lines,
    ".md": read_markdown,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".tab": read_delimited,
    ".psv": read_delimited,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".parquet": read_parquet,
    ".xlsx": read_workbook,
    ".xlsm": read_workbook,
}
"""Reader by suffix."""
_MAGIC: dict[bytes, _Reader] = {b"PAR1": read_parquet, b"PK\x03\x04": read_workbook}
"""Reader by the first bytes, whatever the suffix."""
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"


def _reader(source: Source) -> _Reader:
    for magic, reader in _MAGIC.items():
        if source.head.startswith(magic):
            return reader
    if source.head.startswith(_OLD_WORKBOOK):
        raise DataError(f"{source.path} is a workbook of Excel 97; save it as .xlsx or .csv")
    if source.suffix in READERS:
        return READERS[source.suffix]
    if not source.suffix and (not source.head.count(0) or source.encoding != "utf-8-sig"):
        return read_json if _is_json(source) else read_lines
    raise DataError(
        f"{source.path}: unknown kind of file; use {', '.join(READERS)}, compressed or not "
        f"({', '.join(COMPRESSED)}), or a folder of caption files"
    )


def _is_json(source: Source) -> bool:
    """Whether a file without a suffix holds JSON: `[dog], (red car:1.3)` is a prompt."""
    first = next((line.strip() for _, line in source.lines() if line.strip()), "")
    return first in ("[", "{") or (first[:2] in ('["', "[{", '{"') and first[-1] in "]},")


# -- rows ------------------------------------------------------------------------------------------


def _clean(value: Any, longest: int | None) -> tuple[str, str | None]:
    """The prompt in a cell, and what is wrong with it."""
    if value is None:
        return "", "empty"
    if not isinstance(value, str):
        return "", f"not text but {type(value).__name__}"
    # A byte order mark stays inside where files were joined.
    value = value.replace("\ufeff", "")
    text = " ".join(unicodedata.normalize("NFC", value).split())
    if longest is not None and len(text) > longest:
        return "", f"{len(text):,} characters; at most {longest:,} are taken"
    unsafe = next((char for char in value if _unsafe(char)), None)
    if unsafe is not None:
        kind = "control character" if unicodedata.category(unsafe) == "Cc" else "half character"
        return "", f"holds the {kind} U+{ord(unsafe):04X}"
    return text, None if text else "empty"


def _unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE and char not in _SPACES


def _shown_text(value: Any) -> str:
    """What stands in a row, on one line, unsafe characters replaced by U+FFFD."""
    text = "" if value is None else value if isinstance(value, str) else repr(value)
    safe = "".join("\ufffd" if _unsafe(char) else char for char in text)
    return " ".join(safe.split())


def _excerpt(text: str) -> str:
    return text[:EXCERPT].strip()
