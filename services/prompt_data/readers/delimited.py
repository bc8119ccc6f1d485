"""Reads prompts from tables of text: comma, semicolon, tab or pipe between the cells."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.readers.columns import find_column, no_column
from bigpe.services.prompt_data.readers.rows import COMMENT, Row, line_row
from bigpe.services.prompt_data.readers.sources import Source

DELIMITERS = ("\t", "|", ";", ",")
"""Of those in the header, the most frequent with which it contains the column is used."""
HEADER_ROWS = 20
"""Rows by which the delimiter of a file without a header is found."""
_HINT = "; for a file without a header, --column NUMBER; if each line is a prompt, name it .txt"
_SEPARATOR = re.compile(r"sep=(.)\s*")
"""The first line of tables that are written for Excel."""


class _Table(NamedTuple):
    delimiter: str
    place: int
    """Which cell of a row is the prompt."""
    width: int
    """Number of columns of the header; 0 without a header."""
    first: int
    """Line number of the first row that is no comment."""
    quoted: bool = True
    """Whether cells with delimiters are in quotes; else a quote is a character like any other."""


def read_delimited(source: Source, column: str | None) -> Iterator[Row]:
    """Each row after the header is a prompt; a file of one column needs no header."""
    table = _table(source, column)
    if table.width > 1 and not _is_quoted(source, table) and _is_even(source, table):
        table = table._replace(quoted=False)
    skip = table.width > 0
    for line, cells, fault in _rows(source, table):
        if fault is not None:
            yield Row(line, None, fault)
        elif not any(cell.strip() for cell in cells):
            continue
        elif skip:
            skip = False
        elif table.place >= len(cells):
            text = table.delimiter.join(cells)
            yield Row(line, text, f"has only {len(cells)} of the columns")
        else:
            yield Row(line, cells[table.place])


# -- rows ------------------------------------------------------------------------------------------


def _rows(source: Source, table: _Table) -> Iterator[tuple[int, list[str], str | None]]:
    """Line number, cells and fault of each row, the header included."""
    if not table.quoted:
        for number, line in source.lines():
            if number >= table.first:
                yield number, _unquoted(line, table.delimiter), None
        return
    lines = (line for number, line in source.lines(newline="") if number >= table.first)
    reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
    while True:
        number = reader.line_num + table.first
        try:
            yield number, next(reader), None
        except StopIteration:
            return
        except csv.Error as error:
            _check_quotes(source, number, error)
            yield number, [], f"not csv: {error}"


def _unquoted(line: str, delimiter: str) -> list[str]:
    """The cells of a line in which a quote is a character, save around a whole cell."""
    cells = line.rstrip("\r\n").split(delimiter)
    return [_without_quotes(cell) if cell.startswith('"') else cell for cell in cells]


def _without_quotes(cell: str) -> str:
    inner = cell[1:-1].replace('""', "")
    whole = len(cell) > 1 and cell.endswith('"') and '"' not in inner
    return cell[1:-1].replace('""', '"') if whole else cell


def _check_quotes(source: Source, line: int, error: csv.Error) -> None:
    """DataError when everything from `line` on was taken for one quoted cell."""
    if "unexpected end" in str(error) or "field limit" in str(error):
        raise DataError(
            f"{source.path}, line {line}: a quote is opened here and not closed"
        ) from error


def _is_quoted(source: Source, table: _Table) -> bool:
    """Whether every row follows the rules of quotes."""
    try:
        return all(fault is None for _, _, fault in _rows(source, table))
    except DataError:
        return False


def _is_even(source: Source, table: _Table) -> bool:
    """Whether every line has the cells of the header if quotes are characters like any other."""
    rows = _rows(source, table._replace(quoted=False))
    return all(len(cells) == table.width for _, cells, _ in rows if any(cells))


# -- header ----------------------------------------------------------------------------------------


def _table(source: Source, column: str | None) -> _Table:
    """How the file is divided, and where its prompts are."""
    first, header, forced = _header(source)
    tried = [forced] if forced else _likely_delimiters(header)
    # `prompt,"a; b; c"` has the column with a comma; a longer name is found with each delimiter.
    for longer in (False, True):
        for delimiter in tried:
            names = _cells(source, header, delimiter)
            found = find_column(names, column, longer=longer)
            if found is not None:
                return _Table(delimiter, names.index(found), len(names), first)
    if column is not None and column.isdecimal() and int(column) > 0:
        delimiter = forced or _usual_delimiter(source, first)
        return _Table(delimiter, int(column) - 1, 0, first)
    if column is None and not any(delimiter in header for delimiter in DELIMITERS):
        return _single_column(source, first, header)
    raise no_column(source.path, _cells(source, header, tried[0]), column, _HINT)


def _likely_delimiters(line: str) -> list[str]:
    """The delimiters in the line, the most frequent first; a comma if there is none."""
    present = [delimiter for delimiter in DELIMITERS if delimiter in line]
    return sorted(present, key=lambda delimiter: -line.count(delimiter)) or [","]


def _header(source: Source) -> tuple[int, str, str | None]:
    """The first line that is neither blank nor a comment, and the delimiter of a line before it."""
    forced: str | None = None
    for number, line in source.lines():
        row = line_row(number, line)
        if row.fault == COMMENT or not line.strip():
            continue
        if number == 1 and (separator := _SEPARATOR.fullmatch(line)):
            forced = separator[1]
            continue
        return number, line, forced
    return 1, "", forced


def _cells(source: Source, header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{source.path}, line 1: the header cannot be read: {error}") from error


def _single_column(source: Source, first: int, header: str) -> _Table:
    """A file of one column without a header, of which every line is a prompt."""
    table = _Table(",", 0, 0, first)
    rows = [cells for _, cells, _ in islice(_rows(source, table), 1, HEADER_ROWS) if cells]
    if any(len(cells) > 1 for cells in rows):
        raise no_column(source.path, [header], None, _HINT)
    if len(header.split()) == 1 and any(len(cells[0].split()) > 1 for cells in rows):
        raise no_column(source.path, [header], None, _HINT)
    return table


def _usual_delimiter(source: Source, first: int) -> str:
    """The delimiter that gives the first rows the same number of cells, more than one."""
    lines = [line for number, line in islice(source.lines(), HEADER_ROWS) if number >= first]
    for delimiter in _likely_delimiters(lines[0] if lines else ""):
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        if len(widths) == 1 and max(widths) > 1:
            return delimiter
    return ","
