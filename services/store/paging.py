"""Pages of a transcript, both ways, in a time that does not depend on its length.

A page begins at a message's `seq`, not at a count of rows to skip, so it stays where it is while
the run goes on. A filter by round, type or sender goes along an index of its own; with several,
along the one that leaves least, and the others are checked row by row.
"""

from __future__ import annotations

import sqlite3

from bigpe.services.store.database import Store

NEWEST = 2**63 - 1
"""As `before`: the last page."""
PAGE = 500


async def page(
    store: Store,
    run: str,
    *,
    after: int = 0,
    before: int | None = None,
    round: int | None = None,
    type: str | None = None,
    sender: str | None = None,
    limit: int = PAGE,
) -> list[sqlite3.Row]:
    """At most `limit` messages in transcript order: the first ones after `after`, or with `before`
    the last ones before it (both are a `seq`, and not in the page themselves).

    Columns: seq, mid, type, sender, parent, round, body (JSON), ts (Unix seconds), tokens, ms.
    """
    way = "after" if before is None else "before"
    along = "_by_round" if round is not None else "_by_type" if type is not None else ""
    if not along and sender is not None:
        along = "_by_sender"
    rows = await store.rows(
        f"messages_{way}{along}",
        run=run,
        after=after,
        before=before,
        round=round,
        type=type,
        sender=sender,
        limit=limit,
    )
    return rows if before is None else rows[::-1]
