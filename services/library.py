"""The project's database of professional prompts: import and search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from bigpe.prompts.library import professional_prompts
from bigpe.services.retrieval import deduplicate, fts_query
from bigpe.services.store import Store, many


class SearchedPrompts(Protocol):
    """Professional prompts that can be searched."""

    async def search(self, text: str, limit: int) -> list[str]:
        """Up to `limit` prompts for a text of any kind, best first."""
        ...


class NoPrompts:
    """What a run searches that wants no professional prompts."""

    async def search(self, text: str, limit: int) -> list[str]:
        """Nothing."""
        return []


class PromptLibrary:
    """Professional prompts in the store, searched by FTS5 with BM25 ranking."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, prompts: Iterable[str], *, source: str, license: str) -> None:
        """Add prompts in one transaction; those that are there already stay as they are."""
        rows = [{"text": text, "source": source, "license": license} for text in prompts]
        await self._store.write([many("add_professionals", rows)])

    async def add_packaged(self) -> None:
        """Add the prompts that come with bigpe."""
        rows = [
            {"text": prompt.text, "source": prompt.source, "license": prompt.license}
            for prompt in professional_prompts()
        ]
        await self._store.write([many("add_professionals", rows)])

    async def counts(self) -> list[tuple[str, str, int]]:
        """(source, licence, number of prompts) of what is there."""
        rows = await self._store.rows("count_professional")
        return [(row["source"], row["license"], row["n"]) for row in rows]

    async def search(self, text: str, limit: int) -> list[str]:
        """Up to `limit` prompts for a text of any kind, best first, near-copies left out."""
        query = fts_query(text)
        if not query:
            return []
        rows = await self._store.rows("search_professional", query=query, limit=3 * limit)
        return deduplicate([row["text"] for row in rows])[:limit]
