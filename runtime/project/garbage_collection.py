"""Removes images that nothing refers to, and unfinished files, which a killed process leaves.

An image is written before its database row, so a young file may belong to a call in flight.
Only older files are removed, so that a run may be active meanwhile.
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
"""Files younger than this may belong to a call in flight."""
PAGE = 5000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PAGED = {"message_texts": 0, "effect_texts": "", "sealed_effect_texts": ""}
"""The queries that read a table in pages, with the cursor before its first row."""


@dataclass(frozen=True)
class Swept:
    """Counts of files that were removed (or, in a dry run, would be) and of files that stay."""

    pictures: int
    unfinished: int
    bytes: int
    in_use: int
    """Images that stay because something refers to them."""
    young: int
    """Files that stay because of their age."""


async def sweep(
    project: Project, store: Store, *, older_than_s: float = SPARED_S, dry_run: bool = False
) -> Swept:
    """Remove files without a reference that were not touched for `older_than_s` seconds.

    RunLockedError if that is less than `SPARED_S` and a process writes a run of the project.
    """
    if older_than_s < SPARED_S:
        _refuse_while_written(project)
    blobs = BlobStore(project.images)
    # List the files before the database: images of later calls are then not candidates.
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
    """All texts in the database that may name an image."""
    for query, start in _PAGED.items():
        after: object = start
        while rows := await store.rows(query, after=after, limit=PAGE):
            for row in rows:
                yield row["text"]
            after = rows[-1]["at"]
    for row in await store.rows("further_texts"):
        yield row["text"]


def _remove(paths: Iterable[Path], before: float, *, dry_run: bool) -> tuple[int, int]:
    """Number of removed files, and their bytes."""
    count = size = 0
    for path in paths:
        try:
            # Checked now, because a run may have rendered the same image meanwhile.
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
