"""What servers have taught bigpe: parameters that they refuse, and what their models can do.

It is kept per address and model, in the project's database if there is one.
"""

from __future__ import annotations

from typing import Any, Literal

import structlog

from bigpe.services.core.values import Value
from bigpe.services.store.database import Store

log = structlog.get_logger("bigpe.llm")

SchemaKind = Literal["json_schema", "json_object", "text"]
"""How an answer by a schema is asked for, from the strictest to the loosest."""
LADDER: tuple[SchemaKind, ...] = ("json_schema", "json_object", "text")


class Learned(Value):
    """What is learned of one model at one address. The default says nothing."""

    dropped: frozenset[str] = frozenset()
    """Parameters that are not sent."""
    renamed: dict[str, str] = {}
    """Parameters that are sent under another name."""
    limit_at_most: int | None = None
    """The largest output limit that the server accepts, tokens."""
    schema_kind: SchemaKind | None = None
    """The strictest kind that the server accepts; None: as the table says."""
    schema_keywords: frozenset[str] = frozenset()
    """Keywords of JSON schemas that the server refuses."""
    system_as_user: bool = False
    """Whether the system's text goes before the first user turn."""
    stream: bool = False
    """Whether the server answers streams only."""
    room: dict[str, int] = {}
    """The output limit that suffices, by role, tokens: an answer with a lower one was cut."""
    vision: bool | None = None
    """Whether the model sees pictures, by a probe or by a refusal; None: as the table says."""
    schema_kept: bool | None = None
    """Whether an answer kept to its schema, by a probe."""
    thinks: bool | None = None
    """Whether the model thinks before it answers, by a probe."""

    def joined(self, other: Learned) -> Learned:
        """Both together; where they differ, `other` is newer."""
        newer = other.model_dump(exclude_defaults=True)
        kinds = [kind for kind in (self.schema_kind, other.schema_kind) if kind]
        limits = [most for most in (self.limit_at_most, other.limit_at_most) if most]
        roles = self.room.keys() | other.room.keys()
        together: dict[str, Any] = {
            "room": {r: max(self.room.get(r, 0), other.room.get(r, 0)) for r in sorted(roles)},
            "dropped": self.dropped | other.dropped,
            "renamed": self.renamed | other.renamed,
            "schema_keywords": self.schema_keywords | other.schema_keywords,
            "limit_at_most": min(limits, default=None),
            "schema_kind": max(kinds, key=LADDER.index, default=None),
        }
        return self.model_copy(update=newer | together)

    def differences(self, earlier: Learned) -> list[str]:
        """What is new against `earlier`, in words."""
        found = [f"{name} is left out" for name in sorted(self.dropped - earlier.dropped)]
        found += [
            f"{name} is sent as {new}"
            for name, new in sorted(self.renamed.items())
            if earlier.renamed.get(name) != new and not {name, new} & self.dropped
        ]
        found += [
            f"{word} is left out of schemas"
            for word in sorted(self.schema_keywords - earlier.schema_keywords)
        ]
        if self.limit_at_most != earlier.limit_at_most:
            found.append(f"at most {self.limit_at_most} tokens are asked for")
        if self.schema_kind != earlier.schema_kind:
            found.append(f"schemas are sent as {self.schema_kind}")
        if self.system_as_user and not earlier.system_as_user:
            found.append("the system's text is sent as the user's")
        if self.stream and not earlier.stream:
            found.append("answers are streamed")
        if self.vision is False and earlier.vision is not False:
            found.append("pictures are left out")
        return found


class LearnedServers:
    """What was learned of all servers: in memory, and in the database if there is one."""

    def __init__(self, store: Store | None = None) -> None:
        """Call `load` before the first use if there is a store."""
        self._store = store
        self._found: dict[tuple[str, str], Learned] = {}

    async def load(self) -> LearnedServers:
        """Read all from the database; returns itself."""
        if self._store is not None:
            for row in await self._store.rows("all_learned"):
                key = (row["base_url"], row["model"])
                self._found[key] = Learned.model_validate_json(row["learned"])
        return self

    def of(self, base_url: str, model: str) -> Learned:
        """What is learned of a model; nothing if it was never asked."""
        return self._found.get((base_url, model), Learned())

    async def add(self, base_url: str, model: str, news: Learned) -> Learned:
        """Join `news` to what is learned, keep it, and log what is new; returns both together."""
        before = self.of(base_url, model)
        after = before.joined(news)
        if after == before:
            return before
        self._found[base_url, model] = after
        for change in after.differences(before):
            log.warning(f"{model} at {base_url} refuses a part of requests: {change}")
        if self._store is not None:
            row = {"base_url": base_url, "model": model, "learned": after.model_dump_json()}
            await self._store.write([("put_learned", row)])
        return after
