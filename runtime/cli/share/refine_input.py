"""The rows that `bigpe refine` reads: arguments, a file, or standard input."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.files import PromptRow, prompt_rows, read_rows
from bigpe.services.prompt_data.readers.json_files import json_row
from bigpe.services.prompt_data.readers.rows import Row, line_row
from bigpe.services.prompt_data.readers.sources import check_utf8

STDIN = "standard input"
StdinFormat = Literal["txt", "jsonl"]


def file_rows(path: Path, column: str | None) -> list[PromptRow]:
    """The rows of a file or a folder of caption files."""
    return [*read_rows(path, column=column, longest=None)]


def argument_rows(prompts: Iterable[str]) -> list[PromptRow]:
    """The arguments; one of several lines becomes one line."""
    return [*prompt_rows(Row(number, prompt) for number, prompt in enumerate(prompts, start=1))]


async def given_rows(rows: Iterable[PromptRow]) -> AsyncGenerator[PromptRow]:
    """Rows that exist already."""
    for row in rows:
        yield row


async def piped_rows(form: StdinFormat, column: str | None) -> AsyncGenerator[PromptRow]:
    """The lines of standard input, each without waiting for the next."""
    read = _reader(form, column)
    number = 0
    async for data in _piped_lines():
        number += 1
        line = data.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
        check_utf8(STDIN, number, line)
        for row in prompt_rows([read(number, line)]):
            yield row


def _reader(form: StdinFormat, column: str | None) -> Callable[[int, str], Row]:
    names: dict[str, None] = {}
    if form == "jsonl":
        return lambda number, line: json_row(number, line, column, names)
    return line_row


async def _piped_lines() -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | DataError | None] = asyncio.Queue()

    def put(item: bytes | DataError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lines.put_nowait, item)

    def read() -> None:
        try:
            for line in _blocks_to_lines():
                put(line)
        except (OSError, ValueError) as error:
            put(DataError(f"{STDIN} cannot be read: {error}"))
        put(None)

    # A daemon, because a thread that waits for a line cannot be cancelled and would block Ctrl-C.
    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        if isinstance(line, DataError):
            raise line
        yield line


def _blocks_to_lines() -> Iterator[bytes]:
    """The lines of standard input, read without its lock.

    A thread that waits with the lock would make the interpreter fail at its end.
    """
    raw: Any = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    rest = b""
    while block := raw.read(2**16):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest
