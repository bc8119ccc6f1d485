"""How the coordinator's state is written down, so that resuming need not fold the whole history.

State is made of dataclasses whose fields are all of it; pydantic writes and reads them as JSON.
Here are the forms of what JSON has no form for, and the version that tells whether a stored state
was written by this very code.
"""

from __future__ import annotations

import hashlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, PlainSerializer

K = TypeVar("K")
V = TypeVar("V")


def _as_rows(table: dict[Any, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in table.items()]


def _as_table(stored: Any) -> Any:
    if not isinstance(stored, list):
        return stored
    rows = cast("list[tuple[list[Any], Any]]", stored)
    return {tuple(key): value for key, value in rows}


def _packed(keys: Iterable[int]) -> str:
    return b64encode(array("Q", keys).tobytes()).decode("ascii")


def _unpacked(stored: Any) -> Any:
    if not isinstance(stored, str):
        return stored
    keys: array[int] = array("Q")
    keys.frombytes(b64decode(stored))
    return dict.fromkeys(keys)


ByTuple = Annotated[dict[K, V], PlainSerializer(_as_rows), BeforeValidator(_as_table)]
"""A table whose keys are tuples."""
Keys = Annotated[dict[int, None], PlainSerializer(_packed), BeforeValidator(_unpacked)]
"""A set of 64-bit keys in the order in which they came, packed."""


def key_of(*parts: str | int) -> int:
    """A 64-bit key that stands for `parts`."""
    told = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big")


@cache
def fold_version() -> str:
    """A digest of the code that folds and of the values it folds.

    Any change there makes older snapshots void: a full replay is always right, a guess is not.
    """
    told = hashlib.sha256()
    sources = [*files("bigpe.agents").iterdir(), files("bigpe.services") / "values.py"]
    for file in sorted(sources, key=lambda file: file.name):
        if file.name.endswith(".py"):
            told.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return told.hexdigest()
