"""Word difference of two short texts."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
LONGEST = 4000
"""Most characters of a text; the time is proportional to the product of both lengths."""


class Piece(NamedTuple):
    """A part that is in both texts, or only in the old or the new text."""

    kind: Literal["same", "gone", "new"]
    text: str


def word_difference(old: str, new: str) -> list[Piece]:
    """The pieces of both texts in reading order: removed words, then the words in their place.

    Joining all pieces except "new" gives `old`, all except "gone" gives `new`. A text of more than
    4000 characters counts as replaced completely.
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
