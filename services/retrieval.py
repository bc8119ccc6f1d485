"""The pure half of searching professional prompts: queries and near-copies."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from rapidfuzz import fuzz, process

MOST_TERMS = 32
"""Of a query; the first ones of a longer text."""
NEAR = 90.0
"""rapidfuzz token-sort ratio (0-100) from which a text is a near-copy."""
_SMALL = frozenset("a an the of in on at by near to with and or is it for from as".split())


def fts_query(text: str) -> str:
    """An FTS5 MATCH expression that finds any word of `text`; empty when there is none.

    Never raises. Each word (letters, marks and digits) is quoted, so that no text is ever read as
    FTS5's query language; small words are dropped. MATCH refuses an empty expression: then there
    is nothing to search for.
    """
    words = dict.fromkeys(_words(text))
    kept = [word for word in words if word not in _SMALL][:MOST_TERMS]
    return " OR ".join(f'"{word}"' for word in kept)


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits, NFC, lower case, in order; a mark alone is no word."""
    spaced = "".join(
        char if unicodedata.category(char)[0] in "LMN" else " "
        for char in unicodedata.normalize("NFC", text).lower()
    )
    return [word for word in spaced.split() if any(char.isalnum() for char in word)]


def deduplicate(texts: Iterable[str], threshold: float = NEAR) -> list[str]:
    """The texts without near-copies of an earlier one.

    Two are near when the token-sort ratio of their lower-case words reaches `threshold` (0-100).
    """
    kept: list[str] = []
    forms: list[str] = []
    for text in texts:
        form = " ".join(sorted(text.casefold().split()))
        near = process.extractOne(form, forms, scorer=fuzz.ratio, score_cutoff=threshold)
        if near is None:
            kept.append(text)
            forms.append(form)
    return kept
