"""How the coordinator's state is written down, so that resuming need not fold the whole history.

State is made of dataclasses whose fields are all of it; pydantic writes and reads them as JSON.
Here are the forms of what JSON has no form for, and the version that tells whether a stored state
was written by this very code.
"""

from __future__ import annotations

import hashlib
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


ByTuple = Annotated[dict[K, V], PlainSerializer(_as_rows), BeforeValidator(_as_table)]
"""A dict whose keys are tuples. Its JSON form is a list of [key, value]."""


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
