"""What changed between two short texts, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
LONGEST = 4000
"""Characters compared; comparing costs the product of both lengths."""


class Piece(NamedTuple):
    """A stretch of text that both have, or only one."""

    kind: Literal["same", "gone", "new"]
    text: str


def word_difference(old: str, new: str) -> list[Piece]:
    """The pieces of both texts in reading order: what went, then what came in its place.

    Joining all but the new pieces gives `old`, all but the gone ones `new`. Texts of more than
    4000 characters are shown as replaced whole.
    """
    if len(old) > LONGEST or len(new) > LONGEST:
        return _pieces(("gone", old), ("new", new))
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    pieces: list[Piece] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            pieces += _pieces(("same", "".join(before[a:b])))
        else:
            pieces += _pieces(("gone", "".join(before[a:b])), ("new", "".join(after[c:d])))
    return pieces


def _pieces(*parts: tuple[Literal["same", "gone", "new"], str]) -> list[Piece]:
    return [Piece(kind, text) for kind, text in parts if text]
