"""Finds the column of prompts by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from bigpe.services.core.errors import DataError

COLUMNS = (
    "prompt", "text", "caption", "naive", "query", "title", "description", "input",
    "message", "conversation",
)  # fmt: skip
"""Names by which the column of prompts is found, in this order, in any case and in the plural."""
NO_PROMPTS = frozenset(
    "author category count date embedding file filename hash id idx index lang language len length "
    "license link model name negative neg nsfw num number path score similarity size source time "
    "timestamp token type uri url user".split()
)
"""A longer name with such a word, as `prompt_id` or `negative_prompt`, is no column of prompts."""
_NAMES_IN_ERRORS = 20
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class AmbiguousColumnError(DataError):
    """Several columns may hold the prompts."""


def find_column(names: Sequence[str], column: str | None, *, longer: bool = True) -> str | None:
    """The name, as the file spells it, of the column of prompts.

    Without `column`, a name of `COLUMNS` is found, else (if `longer`) the only longer name with a
    word of it, as "Prompt (en)". AmbiguousColumnError if several fit equally well.
    """
    return _find(tuple(names), column, longer)


@lru_cache(maxsize=1024)
def _find(names: tuple[str, ...], column: str | None, longer: bool) -> str | None:
    if column is not None:
        if column in names:
            return column
        wanted = column.strip().casefold()
        return _only([name for name in names if name.strip().casefold() == wanted])
    words = {name: _words(name) for name in names}
    for wanted in COLUMNS:
        for plural in (False, True):
            same = [n for n in words if words[n] == [(wanted, plural)]]
            if same:
                return _only(same)
    return _only([name for name in names if longer and _is_longer(words[name])])


def _is_longer(words: list[tuple[str, bool]]) -> bool:
    """Whether a name of several words speaks of prompts, and of nothing about them."""
    singular = {word for word, _ in words}
    return not singular.isdisjoint(COLUMNS) and singular.isdisjoint(NO_PROMPTS)


def _only(names: list[str]) -> str | None:
    if len(names) > 1:
        raise AmbiguousColumnError(", ".join(names))
    return names[0] if names else None


def _words(name: str) -> list[tuple[str, bool]]:
    """The words of a name in lower case and the singular, and whether each was a plural."""
    parts = re.findall(r"[^\W_]+", _CAMEL.sub(" ", name))
    return [_singular(part.casefold()) for part in parts]


def _singular(word: str) -> tuple[str, bool]:
    if word.endswith("ies"):
        return word.removesuffix("ies") + "y", True
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word.removesuffix("s"), True
    return word, False


def wanted_names(column: str | None) -> str:
    """The names that are looked for, for an error."""
    return column if column else " or ".join(COLUMNS)


def no_column(path: Path, names: Sequence[str], column: str | None, hint: str = "") -> DataError:
    """The error for a file without the column. It lists the columns that there are."""
    listed = ", ".join(name.strip() for name in names[:_NAMES_IN_ERRORS]) or "none"
    return DataError(
        f"{path} has no column {wanted_names(column)}; it has: {listed}. "
        f"Name one with --column (or [data] column){hint}"
    )


def ambiguous(path: Path, error: AmbiguousColumnError) -> DataError:
    """The error for a file in which several columns may hold the prompts."""
    return DataError(
        f"{path}: several columns may hold the prompts: {error}. "
        "Name one with --column (or [data] column)"
    )
