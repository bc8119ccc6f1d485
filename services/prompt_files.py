"""Prompts from files: txt, csv, jsonl and parquet, each row taken or rejected with its reason."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as arrow
import pyarrow.parquet as parquet

from bigpe.services.errors import DataError

LONGEST = 2000
"""Characters of a prompt."""
COLUMNS = ("prompt", "text", "caption", "naive", "query", "title", "description")
"""Names by which the column of prompts is found, in this order."""
EXCERPT = 80


class AcceptedPrompt(NamedTuple):
    """A prompt that was taken; `line` counts from 1 (of parquet: the row)."""

    text: str
    line: int


class RejectedPrompt(NamedTuple):
    """A row that was not taken, and why."""

    line: int
    text: str
    """Its beginning."""
    reason: str


class PromptFile(NamedTuple):
    """What a file held."""

    accepted: tuple[AcceptedPrompt, ...]
    rejected: tuple[RejectedPrompt, ...]


class _Row(NamedTuple):
    line: int
    value: Any
    fault: str | None = None


def read_prompts(path: Path, *, column: str | None = None) -> PromptFile:
    """The prompts of a file. DataError when the file as a whole cannot be used.

    Prompts become NFC with single spaces; a row with control characters, more than 2,000
    characters, no text, or a prompt that came before is rejected.
    """
    readers: dict[str, Callable[[Path, str | None], Iterator[_Row]]] = {
        ".txt": _read_txt,
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of file; use {', '.join(readers)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file in it")
    try:
        result = _sift(reader(path, column))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise DataError(_encoding(path, error)) from error
    except (OSError, csv.Error, arrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not result.accepted:
        first = f"; the first: {result.rejected[0].reason}" if result.rejected else ""
        raise DataError(f"{path} holds no usable prompt ({len(result.rejected)} rejected{first})")
    return result


def _encoding(path: Path, error: UnicodeDecodeError) -> str:
    line = path.read_bytes()[: error.start].count(b"\n") + 1
    byte = error.object[error.start]
    return f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"


def _sift(rows: Iterator[_Row]) -> PromptFile:
    accepted: list[AcceptedPrompt] = []
    rejected: list[RejectedPrompt] = []
    seen: dict[str, int] = {}
    for row in rows:
        text = unicodedata.normalize("NFC", row.value) if isinstance(row.value, str) else ""
        fault = row.fault or _fault(row.value, text)
        text = " ".join(text.split())
        if fault is None and text in seen:
            fault = f"the same prompt as line {seen[text]}"
        if fault is None:
            seen[text] = row.line
            accepted.append(AcceptedPrompt(text, row.line))
        else:
            rejected.append(RejectedPrompt(row.line, str(row.value)[:EXCERPT], fault))
    return PromptFile(tuple(accepted), tuple(rejected))


def _fault(value: Any, text: str) -> str | None:
    if not isinstance(value, str):
        return f"not text but {type(value).__name__}"
    if not text.strip():
        return "empty"
    if len(text) > LONGEST:
        return f"{len(text):,} characters; at most {LONGEST:,} are taken"
    control = next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r"), None)
    if control is not None:
        return f"holds the control character U+{ord(control):04X}"
    return None


def _read_txt(path: Path, column: str | None) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline=None) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _Row(number, line.rstrip("\n"))


def _read_csv(path: Path, column: str | None) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        name = _column(path, reader.fieldnames or [], column)
        for row in reader:
            yield _Row(reader.line_num, row.get(name))


def _read_jsonl(path: Path, column: str | None) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                yield _Row(number, line.rstrip("\n"), f"not JSON: {error.msg}")
                continue
            if isinstance(value, dict):
                names: list[str] = list(value)
                found = next((n for n in _wanted(column) if n in names), None)
                fault = None if found else f"no column {' or '.join(_wanted(column))}"
                yield _Row(number, value.get(found) if found else line.strip(), fault)
            else:
                yield _Row(number, value)


def _read_parquet(path: Path, column: str | None) -> Iterator[_Row]:
    with parquet.ParquetFile(path) as file:
        name = _column(path, file.schema_arrow.names, column)
        number = 0
        for batch in file.iter_batches(columns=[name]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield _Row(number, value)


def _wanted(column: str | None) -> tuple[str, ...]:
    return (column,) if column else COLUMNS


def _column(path: Path, names: Sequence[str], column: str | None) -> str:
    found = next((name for name in _wanted(column) if name in names), None)
    if found is None:
        raise DataError(
            f"{path} has no column {' or '.join(_wanted(column))}; it has: "
            f"{', '.join(names) or 'none'}. Name one with --column (or [data] column)"
        )
    return found
