"""The pure half of searching professional prompts: queries, near-copies, subjects."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence

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


def contains_subject(subject: Collection[str], text: str | Sequence[str]) -> bool:
    """Whether all subject words are in `text` (or its words), singular or plural; False for none.

    Case does not matter, and only whole words count: "cat" is not in "a caterpillar".
    """
    have = _words(text) if isinstance(text, str) else [word.lower() for word in text]
    forms = {form for word in have for form in _numbers(word)}
    return bool(subject) and all(forms & _numbers(word.lower()) for word in subject)


def _numbers(word: str) -> set[str]:
    """The word, and what its singular may be."""
    found = {word}
    if len(word) > 4 and word.endswith("ies"):
        found.add(word[:-3] + "y")
    if len(word) > 4 and word.endswith("es"):
        found.add(word[:-2])
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        found.add(word[:-1])
    return found
