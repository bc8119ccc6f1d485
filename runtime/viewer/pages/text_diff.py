"""Difference of two texts: by sentence, and within a changed sentence by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, NamedTuple

from bigpe.services.core.values import IDEOGRAPHS

_TOKEN = re.compile(rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+|\s+|[^\w\s]")
"""A word, a character of a language without blanks between words, blanks, or a mark."""
_SENTENCE = re.compile(r".+?(?:[.!?]+(?=\s)\s*|[。！？]+\s*|\n+|$)", re.S)
LONGEST = 4000
"""Most characters of a sentence; the time is proportional to the product of both lengths."""
SENTENCES = 400
LONGEST_TEXT = 40_000
"""Most sentences, and most characters, of a text that is compared by sentence."""
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
    counts as replaced, and so does a text of more than 400 sentences or 40,000 characters.
    """
    before, after = _SENTENCE.findall(old), _SENTENCE.findall(new)
    if max(len(before), len(after)) > SENTENCES or max(len(old), len(new)) > LONGEST_TEXT:
        return _pieces(("gone", [old]), ("new", [new]))
    pieces: list[Piece] = []
    for same, gone, added in _matched(_matcher(before, after), before, after):
        pieces += _pieces(("same", gone)) if same else _changed(gone, added)
    return pieces


def _changed(gone: Sequence[str], added: Sequence[str]) -> Iterator[Piece]:
    """The pieces of sentences that stand in the same place and are not equal."""
    alone = len(gone) == len(added) == 1
    for old, new in zip_longest(gone, added, fillvalue=""):
        if max(len(old), len(new)) > LONGEST:
            yield from _pieces(("gone", [old]), ("new", [new]))
            continue
        words = (_TOKEN.findall(old), _TOKEN.findall(new))
        matcher = _matcher(*words)
        if not alone and matcher.ratio() < REWORDED:
            yield from _pieces(("gone", [old]), ("new", [new]))
            continue
        for same, less, more in _matched(matcher, *words):
            yield from _pieces(("same", less)) if same else _pieces(("gone", less), ("new", more))


def _matcher(before: Sequence[str], after: Sequence[str]) -> SequenceMatcher[str]:
    return SequenceMatcher(None, before, after, autojunk=False)


def _matched(
    matcher: SequenceMatcher[str], before: Sequence[str], after: Sequence[str]
) -> Iterator[tuple[bool, Sequence[str], Sequence[str]]]:
    for kind, a, b, c, d in matcher.get_opcodes():
        yield kind == "equal", before[a:b], after[c:d]


def _pieces(*parts: tuple[Literal["same", "gone", "new"], Sequence[str]]) -> list[Piece]:
    return [Piece(kind, text) for kind, texts in parts if (text := "".join(texts))]
