"""Reads prompts from txt, csv, jsonl and parquet files; each row is accepted or rejected.

Content is never executed, unpickled or fetched. Files are read as a stream; only accepted and
rejected rows stay in memory.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as arrow
import pyarrow.parquet as parquet

from bigpe.services.core.errors import DataError

LONGEST = 2000
"""Maximum length of a prompt, characters."""
COLUMNS = ("prompt", "text", "caption", "naive", "query", "title", "description")
"""Names by which the column of prompts is found, in this order, in any case."""
DELIMITERS = (",", ";", "\t")
"""Delimiters of csv; the first with which the header contains the column is used."""
EXCERPT = 80
"""Characters of a rejected row that are kept."""
_UNSAFE = ("Cc", "Cs")
"""Unicode categories that are rejected: control characters and halves of surrogate pairs."""
_SPACES = "\t\n\r"
"""Control characters that are spaces."""


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


class _Row(NamedTuple):
    line: int
    value: Any
    fault: str | None = None


_Reader = Callable[[Path, str | None], Iterator[_Row]]


def read_prompts(path: Path, *, column: str | None = None) -> PromptFile:
    """The prompts of a file, its kind told by its suffix; `column` is for all kinds but txt.

    Prompts become NFC with single spaces (tabs and line breaks are spaces). Blank lines are
    skipped. Rejected: a row that is empty, not text, or broken; a prompt of more than 2,000
    characters, with a control character (it is not removed: nobody meant it), or that came before.

    DataError when the file as a whole cannot be used: missing, a folder, unreadable, empty, not
    UTF-8 (line and byte are named), without the column (its columns are listed), a csv with a quote
    left open, a broken parquet file, or nothing accepted.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of file; use {', '.join(_READERS)}")
    try:
        _check(path)
        result = _sift(reader(path, column))
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {_first_line(error)}") from error
    if not result.accepted:
        first = f"; the first: {result.rejected[0].reason}" if result.rejected else ""
        raise DataError(f"{path} holds no usable prompt ({len(result.rejected)} rejected{first})")
    return result


def _check(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file in it")
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path} is no ordinary file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")


def _first_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (reason.splitlines() or [type(error).__name__])[0]


# -- rows ------------------------------------------------------------------------------------------


def _sift(rows: Iterable[_Row]) -> PromptFile:
    accepted: list[AcceptedPrompt] = []
    rejected: list[RejectedPrompt] = []
    seen: dict[str, int] = {}
    for row in rows:
        text, fault = ("", row.fault) if row.fault else _clean(row.value)
        if fault is None and text in seen:
            fault = f"the same prompt as line {seen[text]}"
        if fault is None:
            seen[text] = row.line
            accepted.append(AcceptedPrompt(text, row.line))
        else:
            rejected.append(RejectedPrompt(row.line, _excerpt(row.value), fault))
    return PromptFile(tuple(accepted), tuple(rejected))


def _clean(value: Any) -> tuple[str, str | None]:
    """The prompt in a cell, and what is wrong with it."""
    if value is None:
        return "", "empty"
    if not isinstance(value, str):
        return "", f"not text but {type(value).__name__}"
    text = " ".join(unicodedata.normalize("NFC", value).split())
    if len(text) > LONGEST:
        return "", f"{len(text):,} characters; at most {LONGEST:,} are taken"
    unsafe = next((char for char in value if _unsafe(char)), None)
    if unsafe is not None:
        kind = "control character" if unicodedata.category(unsafe) == "Cc" else "half character"
        return "", f"holds the {kind} U+{ord(unsafe):04X}"
    return text, None if text else "empty"


def _unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE and char not in _SPACES


def _excerpt(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else repr(value)
    excerpt = " ".join(text[: 4 * EXCERPT].split(" ")).strip()[:EXCERPT]
    return "".join("\ufffd" if _unsafe(char) else char for char in excerpt)


# -- kinds of files --------------------------------------------------------------------------------


def _lines(path: Path, *, newline: str | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file, numbered from 1; DataError for a byte that is not UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        for number, line in enumerate(file, start=1):
            if not line.isascii():
                _check_encoding(path, number, line)
            yield number, line


def _check_encoding(path: Path, number: int, line: str) -> None:
    # surrogateescape maps byte 0xNN to U+DCNN, and nothing else: UTF-8 has no surrogates.
    wrong = next((char for char in line if "\udc80" <= char <= "\udcff"), None)
    if wrong is not None:
        raise DataError(
            f"{path}, line {number}: byte 0x{ord(wrong) - 0xDC00:02x} is not UTF-8; "
            "save the file as UTF-8"
        )


def _read_txt(path: Path, column: str | None) -> Iterator[_Row]:
    return (_Row(number, line.rstrip("\n")) for number, line in _lines(path) if line.strip())


def _read_csv(path: Path, column: str | None) -> Iterator[_Row]:
    delimiter, index = _csv_column(path, column)
    lines = (line for _, line in _lines(path, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header_seen = False
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _check_quotes(path, line, error)
            yield _Row(line, None, f"not csv: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if not header_seen:
            header_seen = True
        elif index >= len(cells):
            yield _Row(line, delimiter.join(cells), f"has only {len(cells)} of the columns")
        else:
            yield _Row(line, cells[index])


def _check_quotes(path: Path, line: int, error: csv.Error) -> None:
    """DataError when everything from `line` on was taken for one quoted cell."""
    if "unexpected end" in str(error) or "field limit" in str(error):
        raise DataError(f"{path}, line {line}: a quote is opened here and not closed") from error


def _csv_column(path: Path, column: str | None) -> tuple[str, int]:
    """The delimiter, and which cell of a row is the prompt."""
    header = next((line for _, line in _lines(path) if line.strip()), "")
    for delimiter in DELIMITERS:
        names = _csv_names(path, header, delimiter)
        found = _find(names, column)
        if found is not None:
            return delimiter, names.index(found)
    raise _no_column(path, _csv_names(path, header, ","), column)


def _csv_names(path: Path, header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{path}, line 1: the header cannot be read: {error}") from error


def _read_jsonl(path: Path, column: str | None) -> Iterator[_Row]:
    """Each line a JSON string, or an object with the column."""
    names: dict[str, None] = {}
    usable = False
    for number, line in _lines(path):
        if line.strip():
            row = _json_row(number, line.rstrip("\n"), column, names)
            usable = usable or row.fault is None
            yield row
    if names and not usable and _find(list(names), column) is None:
        raise _no_column(path, list(names), column)


def _json_row(number: int, line: str, column: str | None, names: dict[str, None]) -> _Row:
    """The row of one line; the keys of an object are added to `names`."""
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return _Row(number, line, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError):
        return _Row(number, line, "not usable JSON: a number too long, or nested too deeply")
    if not isinstance(value, dict):
        return _json_cell(number, line, value)
    record = cast(dict[str, Any], value)
    names.update(dict.fromkeys(record))
    found = _find(list(record), column)
    if found is None:
        return _Row(number, line, f"has no {' or '.join(_wanted(column))}")
    return _json_cell(number, line, record[found])


def _json_cell(number: int, line: str, value: Any) -> _Row:
    if value is None or isinstance(value, str):
        return _Row(number, value)
    return _Row(number, line, f"not text but {type(value).__name__}")


def _read_parquet(path: Path, column: str | None) -> Iterator[_Row]:
    with parquet.ParquetFile(path) as file:
        names: list[str] = list(file.schema_arrow.names)
        name = _find(names, column)
        if name is None:
            raise _no_column(path, names, column)
        number = 0
        for batch in file.iter_batches(columns=[name]):
            for cell in batch.column(0):
                number += 1
                yield _parquet_row(number, cell)


def _parquet_row(number: int, cell: Any) -> _Row:
    try:
        return _Row(number, cell.as_py())
    except ValueError:
        return _Row(number, None, "not UTF-8")


_READERS: dict[str, _Reader] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


# -- columns ---------------------------------------------------------------------------------------


def _wanted(column: str | None) -> tuple[str, ...]:
    return (column,) if column else COLUMNS


def _find(names: Sequence[str], column: str | None) -> str | None:
    """The name, as the file spells it, of the column of prompts."""
    if column in names:
        return column
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(name.strip().casefold(), name)
    found = (spelled.get(wanted.strip().casefold()) for wanted in _wanted(column))
    return next((name for name in found if name is not None), None)


def _no_column(path: Path, names: Sequence[str], column: str | None) -> DataError:
    listed = ", ".join(name.strip() for name in names[:20]) or "none"
    return DataError(
        f"{path} has no column {' or '.join(_wanted(column))}; it has: {listed}. "
        "Name one with --column (or [data] column)"
    )
