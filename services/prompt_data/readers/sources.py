"""Opens prompt files: compression, encodings, line ends and limits of size."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as arrow

from bigpe.services.core.errors import DataError

LARGEST_UNPACKED = 2**30
"""Maximum size of a compressed file after unpacking, bytes. Larger files may be bombs."""
LARGEST_DOCUMENT = 2**29
"""Maximum size of a JSON document, bytes: it is read as a whole. COCO's largest has 92 MB."""
LONGEST_LINE = 2**24
"""Maximum length of a line, characters. Lines of JSON may hold an image."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes that come after the suffix of the kind. The first bytes decide on compression."""
_HEAD = 512
"""Number of first bytes that decide on compression, kind and encoding."""
_UNICODE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; the mark of UTF-32 begins with that of UTF-16."""


def _zstd(file: IO[bytes]) -> Any:
    return arrow.CompressedInputStream(arrow.PythonFile(file, mode="r"), "zstd")


_UNPACKERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstd,
}


class Source:
    """A file of prompts. Each method opens it anew, so it can be read more than once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.stream() as stream:
            self.head = stream.peek(_HEAD)[:_HEAD]
        """The first bytes, unpacked."""
        self.encoding = _encoding(self.head)

    @property
    def suffix(self) -> str:
        """The suffix of the kind in lower case: ".jsonl" of "a.JSONL.gz"."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        while suffixes and suffixes[-1] in COMPRESSED:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    @contextmanager
    def stream(self) -> Generator[io.BufferedReader]:
        """The bytes, unpacked."""
        with self.path.open("rb") as file:
            head = file.read(8)
            file.seek(0)
            found = (open_ for magic, open_ in _UNPACKERS.items() if head.startswith(magic))
            if unpack := next(found, None):
                with unpack(file) as unpacked:
                    yield io.BufferedReader(_Bounded(unpacked, self.path))
            else:
                yield file

    @contextmanager
    def seekable(self) -> Generator[IO[bytes]]:
        """The bytes, unpacked, for libraries that need to seek."""
        with self.stream() as stream:
            if not isinstance(stream.raw, _Bounded):
                yield stream
                return
            with tempfile.TemporaryFile() as copy:
                while block := stream.read(2**20):
                    copy.write(block)
                copy.seek(0)
                yield copy

    def lines(self, *, newline: str | None = None) -> Iterator[tuple[int, str]]:
        """The lines, numbered from 1. DataError names a byte that the encoding does not allow."""
        escape = "surrogateescape" if self.encoding == "utf-8-sig" else "strict"
        number = 0
        with self.stream() as stream:
            text = io.TextIOWrapper(stream, self.encoding, errors=escape, newline=newline)
            try:
                while line := text.readline(LONGEST_LINE):
                    number += 1
                    if len(line) == LONGEST_LINE:
                        raise DataError(
                            f"{self.path}, line {number} has {LONGEST_LINE:,} characters or more; "
                            "check that the file holds text"
                        )
                    if not line.isascii():
                        check_utf8(str(self.path), number, line)
                    yield number, line
            except UnicodeDecodeError as error:
                raise _undecodable(str(self.path), number + 1, error) from error
            finally:
                text.detach()  # `stream` closes itself

    def text(self) -> str:
        """The whole text, of at most `LARGEST_DOCUMENT` bytes."""
        with self.stream() as stream:
            data = stream.read(LARGEST_DOCUMENT + 1)
        if len(data) > LARGEST_DOCUMENT:
            raise DataError(
                f"{self.path} has more than {LARGEST_DOCUMENT:,} bytes, too many for one JSON "
                "document; write one object per line (.jsonl)"
            )
        try:
            return data.decode(self.encoding)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _undecodable(str(self.path), line, error) from error


class _Bounded(io.RawIOBase):
    """Unpacked bytes, at most `LARGEST_UNPACKED` of them."""

    def __init__(self, unpacked: Any, path: Path) -> None:
        self._unpacked = unpacked
        self._path = path
        self._left = LARGEST_UNPACKED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data: bytes = self._unpacked.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._path} unpacks to more than {LARGEST_UNPACKED:,} bytes; "
                "unpack it and name the unpacked file"
            )
        buffer[: len(data)] = data
        return len(data)


def _encoding(head: bytes) -> str:
    """The encoding by its byte order mark, or by the zeros that UTF-16 has in Latin text."""
    marked = next((name for mark, name in _UNICODE if head.startswith(mark)), None)
    if marked:
        return marked
    half = len(head) // 2
    if half >= 4 and head[1::2].count(0) > half * 3 // 4:
        return "utf-16-le"
    if half >= 4 and head[::2].count(0) > half * 3 // 4:
        return "utf-16-be"
    return "utf-8-sig"


def check_utf8(where: str, number: int, line: str) -> None:
    """DataError if `line`, decoded with surrogateescape, holds a byte that is not UTF-8."""
    # surrogateescape maps byte 0xNN to U+DCNN, and nothing else: UTF-8 has no surrogates.
    wrong = next((char for char in line if "\udc80" <= char <= "\udcff"), None)
    if wrong is not None:
        raise _not_utf8(where, number, ord(wrong) - 0xDC00)


def _not_utf8(where: str, number: int, byte: int) -> DataError:
    return DataError(
        f"{where}, line {number}: byte 0x{byte:02x} is not UTF-8; save the text as UTF-8, for "
        "example with `iconv -f CP1252 -t UTF-8` if it comes from Windows"
    )


def _undecodable(where: str, number: int, error: UnicodeDecodeError) -> DataError:
    if error.encoding.startswith("utf-8"):
        return _not_utf8(where, number, error.object[error.start])
    return DataError(f"{where}, line {number} is not {error.encoding}: {error.reason}")
