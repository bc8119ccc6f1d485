"""Pages of a transcript in both directions; the time does not depend on its length.

A page begins at the `seq` of a message, so it does not move while the run continues. Filters by
round, type and sender have one index each. With several filters, the most selective index is used
and the other filters are checked row by row.
"""

from __future__ import annotations

import sqlite3

from bigpe.services.store.database import Store

NEWEST = 2**63 - 1
"""Value of `before` for the last page."""
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
    """At most `limit` messages in transcript order, after `after` or directly before `before`.

    Both are a `seq`; the page does not include the message with that `seq`.

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
