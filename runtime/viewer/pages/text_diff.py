"""Difference of two texts: by sentence, and within a changed sentence by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, NamedTuple

_EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_EAST_ASIAN}]|[^\W{_EAST_ASIAN}]+|\s+|[^\w\s]")
"""A word, a character of a language without blanks between words, blanks, or a mark."""
_SENTENCE = re.compile(r".+?(?:[.!?]+(?=\s)\s*|[。！？]+\s*|\n+|$)", re.S)
LONGEST = 4000
"""Most characters of a sentence; the time is proportional to the product of both lengths."""
REWORDED = 0.5
"""Least similarity of a sentence that counts as changed, not as replaced."""


class Piece(NamedTuple):
    """A part that is in both texts, or only in the old or the new text."""

    kind: Literal["same", "gone", "new"]
    text: str


def text_difference(old: str, new: str) -> list[Piece]:
    """The pieces of both texts in reading order: what is gone, then what stands in its place.

    Joining all pieces except "new" gives `old`, all except "gone" gives `new`. A sentence that is
    in both is one piece. A changed sentence is compared by words; one of more than 4000 characters
    counts as replaced.
    """
    before, after = _SENTENCE.findall(old), _SENTENCE.findall(new)
    return [
        piece
        for same, gone, added in _matched(before, after)
        for piece in ([Piece("same", "".join(gone))] if same else _changed(gone, added))
    ]


def _changed(gone: Sequence[str], added: Sequence[str]) -> Iterator[Piece]:
    """The pieces of sentences that stand in the same place and are not equal."""
    alone = len(gone) == len(added) == 1
    for old, new in zip_longest(gone, added, fillvalue=""):
        words = (_TOKEN.findall(old), _TOKEN.findall(new))
        comparable = max(len(old), len(new)) <= LONGEST
        if comparable and (alone or SequenceMatcher(None, *words, False).ratio() >= REWORDED):
            for same, less, more in _matched(*words):
                both = _pieces(("same", less))
                yield from both if same else _pieces(("gone", less), ("new", more))
        else:
            yield from _pieces(("gone", [old]), ("new", [new]))


def _matched(
    before: Sequence[str], after: Sequence[str]
) -> Iterator[tuple[bool, Sequence[str], Sequence[str]]]:
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        yield kind == "equal", before[a:b], after[c:d]


def _pieces(*parts: tuple[Literal["same", "gone", "new"], Sequence[str]]) -> list[Piece]:
    return [Piece(kind, text) for kind, texts in parts if (text := "".join(texts))]
