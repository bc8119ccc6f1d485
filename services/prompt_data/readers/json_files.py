"""Reads prompts from JSON: one value for each line, or one document with a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.readers.columns import find_column, no_column, wanted_names
from bigpe.services.prompt_data.readers.rows import BLANK, Row, cell_values
from bigpe.services.prompt_data.readers.sources import Source

_UNREADABLE = "not usable JSON: a number too long, or nested too deeply"


def read_json(source: Source, column: str | None) -> Iterator[Row]:
    """A document, or one value for each line, whichever the content is."""
    return _read_document(source, column) if _is_document(source) else _read_lines(source, column)


def _is_document(source: Source) -> bool:
    """Whether the file is one JSON value: its first line is no value, or the only line."""
    lines = (line for _, line in source.lines() if line.strip())
    first = next(lines, "")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # The first line of a document in several lines is "[" or the like.
        return source.suffix == ".json" or len(first.strip()) == 1
    return next(lines, None) is None


# -- lines -----------------------------------------------------------------------------------------


def _read_lines(source: Source, column: str | None) -> Iterator[Row]:
    """Each line a JSON string, or an object with the column."""
    names: dict[str, None] = {}
    usable = False
    for number, line in source.lines():
        row = json_row(number, line, column, names)
        usable = usable or row.fault is None
        yield row
    if names and not usable and find_column(list(names), column) is None:
        raise no_column(source.path, list(names), column)


def json_row(number: int, line: str, column: str | None, names: dict[str, None]) -> Row:
    """The row of one line; the keys of an object are added to `names`."""
    line = line.rstrip("\r\n")
    if not line.strip():
        return Row(number, line, BLANK, skipped=True)
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(number, line, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError):
        return Row(number, line, _UNREADABLE)
    return _record_row(number, value, column, names)


def _record_row(number: int, value: Any, column: str | None, names: dict[str, None]) -> Row:
    """The row of one value: a text, a conversation, or an object with the column."""
    if not isinstance(value, dict):
        return Row(number, value)
    record = cast(dict[str, Any], value)
    names.update(dict.fromkeys(record))
    found = find_column(list(record), column)
    if found is not None:
        return Row(number, record[found])
    if column and "." in column and (inner := _inner(record, column)) is not None:
        return Row(number, inner)
    return Row(number, json.dumps(value, ensure_ascii=False), f"has no {wanted_names(column)}")


def _inner(record: Mapping[str, Any], path: str) -> Any:
    """The value at a path such as `meta.prompt`."""
    value: Any = record
    for key in path.split("."):
        value = cast(Mapping[str, Any], value).get(key) if isinstance(value, Mapping) else None
    return value


# -- documents -------------------------------------------------------------------------------------


def _read_document(source: Source, column: str | None) -> Iterator[Row]:
    try:
        value: Any = json.loads(source.text())
    except json.JSONDecodeError as error:
        where = f"{source.path}, line {error.lineno}"
        raise DataError(f"{where}, column {error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.path}: {_UNREADABLE}") from error
    items, inner = _items(source, value, column)
    names: dict[str, None] = {}
    usable = False
    for number, item in enumerate(items, start=1):
        row = _record_row(number, item, inner, names)
        usable = usable or row.fault is None
        yield row
    if names and not usable and find_column(list(names), inner) is None:
        raise no_column(source.path, list(names), column)


def _items(source: Source, value: Any, column: str | None) -> tuple[list[Any], str | None]:
    """The records or texts of a document, and the column in them."""
    if isinstance(value, list):
        return cast(list[Any], value), column
    if not isinstance(value, dict):
        return [value], column
    record = cast(dict[str, Any], value)
    if isinstance(record.get("columns"), list) and isinstance(record.get("data"), list):
        return [dict(zip(record["columns"], row, strict=False)) for row in record["data"]], column
    found = find_column(list(record), column)
    if found is not None:
        return _column_of(record[found]), None
    key, _, inner = (column or "").partition(".")
    lists = {name: found for name, found in record.items() if _has_prompts(found, column)}
    if inner and isinstance(record.get(key), list):
        return record[key], inner
    if len(lists) > 1:
        names = ", ".join(lists)
        raise DataError(
            f"{source.path}: several lists may hold the prompts: {names}. "
            "Name one with --column LIST, or --column LIST.COLUMN"
        )
    if lists:
        return next(iter(lists.values())), column
    values = list(record.values())
    if len(values) > 1 and (_all(values, str) or _all(values, dict)):
        return values, column  # by name or id, as trainers keep captions
    raise no_column(source.path, list(record), column)


def _column_of(value: Any) -> list[Any]:
    """The cells of one column: a list, or an object by row number as pandas writes it."""
    if isinstance(value, dict):
        return list(cast(dict[str, Any], value).values())
    return cell_values(value)


def _has_prompts(value: Any, column: str | None) -> bool:
    """Whether a list holds texts, or records with the column."""
    if not isinstance(value, list) or not value:
        return False
    first: Any = cast(list[Any], value)[0]
    if isinstance(first, dict):
        return find_column(list(cast(dict[str, Any], first)), column) is not None
    return isinstance(first, str) and column is None


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
