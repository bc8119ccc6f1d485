"""Reads prompts from Parquet files and Excel workbooks."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as parquet

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.readers.columns import find_column, no_column
from bigpe.services.prompt_data.readers.rows import Row
from bigpe.services.prompt_data.readers.sources import LARGEST_UNPACKED, Source

WORKBOOK = "xl/workbook.xml"
"""The file that a zip archive has if it is a workbook."""


def read_parquet(source: Source, column: str | None) -> Iterator[Row]:
    """Each row of the column is a prompt."""
    with source.seekable() as stream, parquet.ParquetFile(stream) as file:
        names: list[str] = list(file.schema_arrow.names)
        name = find_column(names, column)
        if name is None:
            raise no_column(source.path, names, column)
        number = 0
        for batch in file.iter_batches(columns=[name]):
            for cell in batch.column(0):
                number += 1
                yield _parquet_row(number, cell)


def _parquet_row(number: int, cell: Any) -> Row:
    try:
        value = cell.as_py()
        return Row(number, value.decode() if isinstance(value, bytes) else value)
    except ValueError:
        return Row(number, None, "not UTF-8")


def read_workbook(source: Source, column: str | None) -> Iterator[Row]:
    """Each row of the sheet with the column is a prompt. Formulas give their stored values."""
    import openpyxl  # it would delay the start of each command
    from openpyxl.utils.exceptions import InvalidFileException

    with source.seekable() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts of workbooks that openpyxl does not read
        _check_archive(source, stream)
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        except (InvalidFileException, KeyError, SyntaxError, ValueError) as error:
            raise DataError(f"{source.path} cannot be read as a workbook: {error}") from error
        try:
            yield from _sheet_rows(*_sheet(source, book, column))
        finally:
            book.close()


def _check_archive(source: Source, stream: Any) -> None:
    """DataError for an archive that is no workbook, or that unpacks to too much."""
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
    if WORKBOOK not in {member.filename for member in members}:
        raise DataError(f"{source.path} is an archive; unpack it and name the file in it")
    if sum(member.file_size for member in members) > LARGEST_UNPACKED:
        raise DataError(
            f"{source.path} unpacks to more than {LARGEST_UNPACKED:,} bytes; save it as csv"
        )
    stream.seek(0)


def _sheet(source: Source, book: Any, column: str | None) -> tuple[Any, int, bool]:
    """The sheet with the column, the column's index, and whether the sheet has a header.

    `SHEET!COLUMN` names both; a number names a column of a sheet without a header.
    """
    wanted, separator, inner = (column or "").partition("!")
    found: list[tuple[Any, int, bool]] = []
    headers: list[str] = []
    for sheet in book.worksheets:
        if separator and sheet.title != wanted:
            continue
        names = _header(sheet)
        headers += names
        given = (inner or None) if separator else column
        name = find_column(names, given)
        if name is not None:
            found.append((sheet, names.index(name), True))
        elif given and given.isdecimal() and 0 < int(given) <= len(names):
            found.append((sheet, int(given) - 1, False))
    if len(found) > 1:
        titles = ", ".join(sheet.title for sheet, *_ in found)
        raise DataError(
            f"{source.path}: several sheets may hold the prompts: {titles}. "
            "Name one with --column SHEET!COLUMN"
        )
    if not found:
        raise no_column(source.path, headers, column, "; without a header, --column NUMBER")
    return found[0]


def _header(sheet: Any) -> list[str]:
    """The cells of the first row that is not empty."""
    for cells in sheet.iter_rows(values_only=True):
        if any(cell is not None for cell in cells):
            return ["" if cell is None else str(cell) for cell in cells]
    return []


def _sheet_rows(sheet: Any, index: int, header: bool) -> Iterator[Row]:
    """The rows after the header; empty rows are left out."""
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if all(cell is None for cell in cells):
            continue
        if header:
            header = False
        else:
            yield Row(number, cells[index] if index < len(cells) else None)
