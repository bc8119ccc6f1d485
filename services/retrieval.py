"""The pure half of searching professional prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set

from rapidfuzz import fuzz

MOST_TERMS = 32
NEAR = 90.0
_SMALL = frozenset("a an the of in on at by near to with and or is it for from as".split())


def fts_query(text: str) -> str:
    """An FTS5 MATCH expression that finds any word of `text`; empty when there is none.

    Each word is quoted, so that no text is ever read as FTS5's query language.
    """
    words = dict.fromkeys(re.findall(r"[^\W_]+", text.casefold()))
    kept = [word for word in words if word not in _SMALL][:MOST_TERMS]
    return " OR ".join(f'"{word}"' for word in kept)


def deduplicate(texts: Iterable[str], threshold: float = NEAR) -> list[str]:
    """The texts without near-copies of an earlier one (token-sort ratio >= threshold, 0-100)."""
    kept: list[str] = []
    for text in texts:
        if all(fuzz.token_sort_ratio(text, other) < threshold for other in kept):
            kept.append(text)
    return kept


def contains_subject(subject: Set[str], words: Sequence[str]) -> bool:
    """Whether all subject words are among `words`, in singular or plural; False for none."""
    forms = {form for word in words for form in (word, word.removesuffix("s"))}
    return bool(subject) and all(word in forms for word in subject)
