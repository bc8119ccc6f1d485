"""Rows of a prompt file, and the texts in a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

BLANK = "a blank line"
COMMENT = "a comment"
_COMMENT = re.compile(r"#+(?:\s|$)")
"""Not `#1 fan` and `#sunset`: they are prompts."""
_ROLE = ("role", "from")
_CONTENT = ("content", "value")
_USERS = ("user", "human")
"""Names of OpenAI's and ShareGPT's conversations."""


class Row(NamedTuple):
    """One row as a reader finds it."""

    line: int
    """Counts from 1. Of parquet and JSON documents: the row; of a folder: the file."""
    value: Any
    """The cell with the prompt; of a broken row, its text."""
    fault: str | None = None
    """Why the row cannot be used."""
    skipped: bool = False
    """Whether the row holds no prompt on purpose: a blank line or a comment."""


def line_row(number: int, line: str) -> Row:
    """The row of one line of text."""
    text = line.rstrip("\r\n")
    if not text.strip():
        return Row(number, text, BLANK, skipped=True)
    if _COMMENT.match(text):
        return Row(number, text, COMMENT, skipped=True)
    return Row(number, text)


def cell_values(value: Any) -> list[Any]:
    """The prompts in a cell: each text of a list, or the first user turn of a conversation."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items: list[Any] = list(cast(Sequence[Any], value))
        if items and all(_is_turn(item) for item in items):
            return [_first_user_turn(items)]
        return items or [None]
    return [_content(cast(Mapping[str, Any], value)) if _is_turn(value) else value]


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and any(name in value for name in _ROLE)


def _first_user_turn(turns: Sequence[Mapping[str, Any]]) -> Any:
    for turn in turns:
        role = next(turn[name] for name in _ROLE if name in turn)
        if str(role).casefold() in _USERS:
            return _content(turn)
    return None


def _content(turn: Mapping[str, Any]) -> Any:
    """The text of a turn; its parts are joined if it has parts."""
    content = next((turn[name] for name in _CONTENT if name in turn), None)
    if not isinstance(content, list):
        return content
    parts = cast(list[Any], content)
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str)) or None
