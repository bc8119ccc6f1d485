"""Removing pictures that nothing refers to: a kill can leave some, and files half written.

A picture is written before the database says so, so a young file may belong to a call in flight:
only files that have not been touched for a while go, and then a run may be under way meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from bigpe.runtime.project.lock import lock_holder
from bigpe.runtime.project.paths import Project
from bigpe.services.core.errors import RunLockedError
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Store

SPARED_S = 3600.0
"""Age below which a file may be one in flight."""
PAGE = 5000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PAGED = {"message_texts": 0, "effect_texts": "", "sealed_effect_texts": ""}
"""The queries that go through a table in pages, with the place before its first row."""


@dataclass(frozen=True)
class Swept:
    """What was removed, or would be."""

    pictures: int
    unfinished: int
    bytes: int
    in_use: int
    """Pictures that stay because something refers to them."""
    young: int
    """Files that stay because they are younger than asked for."""


async def sweep(
    project: Project, store: Store, *, older_than_s: float = SPARED_S, dry_run: bool = False
) -> Swept:
    """Remove what nothing refers to and nobody touched for `older_than_s` seconds.

    RunLockedError when that is less than `SPARED_S` and a run of the project is being written.
    """
    if older_than_s < SPARED_S:
        _refuse_while_written(project)
    blobs = BlobStore(project.images)
    # The files first: what comes after this is not looked at.
    pictures = {name: blobs.path(name) for name in blobs.digests()}
    unfinished = list(blobs.unfinished())
    orphans = set(pictures)
    async for text in _texts(store):
        orphans.difference_update(_DIGEST.findall(text))
    before = time.time() - older_than_s
    gone, bytes_ = _remove([pictures[name] for name in sorted(orphans)], before, dry_run=dry_run)
    halves, more = _remove(unfinished, before, dry_run=dry_run)
    return Swept(
        pictures=gone,
        unfinished=halves,
        bytes=bytes_ + more,
        in_use=len(pictures) - len(orphans),
        young=len(orphans) + len(unfinished) - gone - halves,
    )


def _refuse_while_written(project: Project) -> None:
    for lock in sorted(project.lock("x").parent.glob("*.lock")):
        if (holder := lock_holder(lock)) is not None:
            raise RunLockedError(
                f"run {lock.stem!r} is being written by process {holder}, and its youngest files "
                f"may be in use: stop it with `bigpe stop {lock.stem}`, or leave out --older-than"
            )


async def _texts(store: Store) -> AsyncIterator[str]:
    """Everything in the database that may name a picture."""
    for query, start in _PAGED.items():
        after: object = start
        while rows := await store.rows(query, after=after, limit=PAGE):
            for row in rows:
                yield row["text"]
            after = rows[-1]["at"]
    for row in await store.rows("further_texts"):
        yield row["text"]


def _remove(paths: Iterable[Path], before: float, *, dry_run: bool) -> tuple[int, int]:
    """How many files went, and their bytes."""
    count = size = 0
    for path in paths:
        try:
            # Looked at now: a run may have asked for the same picture meanwhile.
            facts = path.stat()
            if facts.st_mtime >= before:
                continue
            if not dry_run:
                os.unlink(path)
        except FileNotFoundError:
            continue
        count += 1
        size += facts.st_size
    return count, size
