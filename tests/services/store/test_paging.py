"""Pages of a transcript: complete, in order, both ways, under every filter, along an index."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from bigpe.services.store import migrations
from bigpe.services.store.database import QUERIES, Statement, Store, many
from bigpe.services.store.paging import NEWEST, page

TYPES, SENDERS = ("Asked", "Done", "Failed"), ("coordinator", "scorer")
MESSAGES = [
    {
        "mid": f"{run}{i}",
        "run": run,
        "type": TYPES[i % 3],
        "sender": SENDERS[i % 2],
        "round": i // 7,
    }
    for i in range(40)
    for run in ("a", "b")
]
FILTERS: list[dict[str, str | int]] = [
    {},
    {"type": "Done"},
    {"sender": "scorer"},
    {"round": 2},
    {"type": "Done", "sender": "scorer"},
    {"type": "Done", "round": 2},
    {"sender": "scorer", "round": 2},
    {"type": "Done", "sender": "scorer", "round": 2},
    {"type": "none so called"},
]


def add(message: dict[str, object]) -> Statement:
    rest = {"parent": "", "body": "{}", "ts": 0.0, "tokens": 3, "ms": 0.0}
    return many("add_messages", [message | rest], run=message["run"])


async def filled(store: Store) -> None:
    for run in ("a", "b"):
        row = {"name": run, "created": 0.0, "config": "{}", "version": "0"}
        await store.write([("add_run", row)])
    await store.write([add(message) for message in MESSAGES])


def wanted(run: str, chosen: dict[str, str | int]) -> list[str]:
    return [
        str(message["mid"])
        for message in MESSAGES
        if message["run"] == run and all(message[key] == value for key, value in chosen.items())
    ]


@pytest.mark.parametrize("chosen", FILTERS, ids=str)
@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_pages_follow_each_other_both_ways(
    tmp_path: Path, chosen: dict[str, str | int], limit: int
) -> None:
    async with Store(tmp_path / "p.db") as store:
        await filled(store)
        forward: list[str] = []
        after = 0
        while rows := await page(store, "a", after=after, limit=limit, **chosen):
            forward += [row["mid"] for row in rows]
            after = rows[-1]["seq"]
        backward: list[str] = []
        before = NEWEST
        while rows := await page(store, "a", before=before, limit=limit, **chosen):
            backward = [row["mid"] for row in rows] + backward
            before = rows[0]["seq"]
    assert forward == backward == wanted("a", chosen)


@pytest.mark.parametrize("name", [name for name in QUERIES if name.startswith("messages_")])
def test_no_page_is_scanned_or_sorted_for(name: str) -> None:
    connection = sqlite3.connect(":memory:")
    for step in migrations.STEPS:
        for statement in step:
            connection.execute(statement)
    query = QUERIES[name]
    params = dict.fromkeys(re.findall(r":(\w+)", query))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", params)]
    assert len(plan) == 1 and plan[0].startswith("SEARCH message USING INDEX message_by_"), plan


async def test_counts_are_kept_as_messages_come(tmp_path: Path) -> None:
    async with Store(tmp_path / "p.db") as store:
        await filled(store)
        await store.write([add(message) for message in MESSAGES])  # said again: absorbed
        by_type = {row["type"]: row["n"] for row in await store.rows("count_messages", run="a")}
        rows = await store.rows("count_messages_by_sender", run="b")
        listed = {row["name"]: dict(row) for row in await store.rows("list_runs")}
    assert by_type == {kind: len(wanted("a", {"type": kind})) for kind in TYPES}
    for row in rows:
        n = len(wanted("b", {"type": row["type"], "sender": row["sender"]}))
        assert (row["n"], row["tokens"]) == (n, 3 * n)
    assert (listed["b"]["messages"], listed["b"]["round"]) == (40, 5)
