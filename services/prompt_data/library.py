"""Professional prompts in the project's database: import, full-text search, near-copies."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable
from typing import Protocol

from rapidfuzz import fuzz, process

from bigpe.prompts.library import (
    PROFESSIONAL_SETS,
    ProfessionalSet,
    professional_prompts,
    source_of,
)
from bigpe.services.prompt_data.splits import NEAR, SMALL_WORDS
from bigpe.services.store.database import Store, many

MOST_TERMS = 32
"""Words of a query; a longer text is cut after them."""
_IGNORED = SMALL_WORDS | {"is", "it", "for", "from", "as"}


class SearchedPrompts(Protocol):
    """Professional prompts that can be searched."""

    async def search(self, text: str, limit: int) -> list[str]:
        """Up to `limit` prompts for a text of any kind, best first."""
        ...


class NoPrompts:
    """An empty library, for runs without professional prompts."""

    async def search(self, text: str, limit: int) -> list[str]:
        """Nothing."""
        return []


class PromptLibrary:
    """Professional prompts in the store, searched by FTS5 with BM25 ranking."""

    def __init__(
        self, store: Store, packaged: Collection[ProfessionalSet] = PROFESSIONAL_SETS
    ) -> None:
        """`packaged`: the packaged sets to search beside all prompts of the project's own."""
        self._store = store
        self._packaged = packaged
        hidden = [source_of(name) for name in PROFESSIONAL_SETS if name not in packaged]
        self._without = json.dumps(hidden)

    async def add(self, prompts: Iterable[str], *, source: str, license: str) -> None:
        """Add prompts in one transaction; prompts that the store already has stay unchanged."""
        rows = [{"text": text, "source": source, "license": license} for text in prompts]
        await self._store.write([many("add_professionals", rows)])

    async def add_packaged(self) -> None:
        """Add the prompts of the packaged sets."""
        rows = [
            {"text": prompt.text, "source": prompt.source, "license": prompt.license}
            for name in self._packaged
            for prompt in professional_prompts(name)
        ]
        await self._store.write([many("add_professionals", rows)])

    async def counts(self) -> list[tuple[str, str, int]]:
        """(source, licence, number of prompts) for each source and licence."""
        rows = await self._store.rows("count_professional")
        return [(row["source"], row["license"], row["n"]) for row in rows]

    async def search(self, text: str, limit: int) -> list[str]:
        """Up to `limit` prompts for a text of any kind, best first, without near-copies."""
        query = fts_query(text)
        if not query:
            return []
        rows = await self._store.rows(
            "search_professional", query=query, without=self._without, limit=3 * limit
        )
        return deduplicate([row["text"] for row in rows])[:limit]


def fts_query(text: str) -> str:
    """An FTS5 MATCH expression that finds any word of `text`; empty when there is none.

    Never raises. Each word (letters, marks and digits) is quoted, so that FTS5 never reads the
    text as its query language; small words are dropped. MATCH refuses an empty expression: the
    caller must not search then.
    """
    words = dict.fromkeys(_words(text))
    kept = [word for word in words if word not in _IGNORED][:MOST_TERMS]
    return " OR ".join(f'"{word}"' for word in kept)


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits, NFC, lower case, in order; a mark alone is no word."""
    spaced = "".join(
        char if unicodedata.category(char)[0] in "LMN" else " "
        for char in unicodedata.normalize("NFC", text).lower()
    )
    return [word for word in spaced.split() if any(char.isalnum() for char in word)]


def deduplicate(texts: Iterable[str], threshold: float = NEAR) -> list[str]:
    """The texts without near-copies of an earlier text.

    Two texts are near when the token-sort ratio of their lower-case words is at least `threshold`
    (0-100).
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
