"""Finding messages: whole, in order, both ways, and whatever the text is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.runtime.transcript import search
from bigpe.runtime.transcript.search import (
    Cursor,
    TranscriptRow,
    Wanted,
    causes,
    consequences,
    find,
    has_text,
    message_row,
)
from bigpe.services.store.database import QUERIES, Store
from bigpe.services.store.paging import NEWEST
from bigpe.testing.runs import run_fake

WANTED = [
    Wanted(),
    Wanted(quiet=True),
    Wanted(sender="session"),
    Wanted(sender="scorer", round=2),
    Wanted(kind="LlmTurn", quiet=True),
    Wanted(text="golden"),
    Wanted(text="GOLDEN", quiet=True, round=3),
    Wanted(text="naive", sender="generator"),
    Wanted(text="said by nobody"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    asyncio.run(run_fake(folder))
    return folder


async def all_rows(store: Store) -> list[TranscriptRow]:
    return (await find(store, "main", Wanted(), limit=10**6, seconds=None)).rows


def fits(row: TranscriptRow, wanted: Wanted) -> bool:
    return (
        (wanted.kind is None or row.kind == wanted.kind)
        and (wanted.round is None or row.round == wanted.round)
        and (wanted.sender is None or row.sender == wanted.sender)
        and (not wanted.text or has_text(row.body, wanted.text))
        and not (wanted.quiet and not wanted.text and not wanted.kind and is_quiet(row))
    )


def is_quiet(row: TranscriptRow) -> bool:
    return row.kind in search.QUIET_KINDS


@pytest.mark.parametrize("wanted", WANTED, ids=str)
@pytest.mark.parametrize("seconds", [None, 0.0])
async def test_pages_hold_every_wanted_message_once_both_ways(
    project: Path, wanted: Wanted, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time at all each call looks at one stretch, and says where to go on."""
    monkeypatch.setattr(search, "STRETCH", 37)
    monkeypatch.setattr(search, "CANDIDATES", 5)
    async with Store(project / "bigpe.db", read_only=True) as store:
        everything = await all_rows(store)
        down: list[TranscriptRow] = []
        page = await find(store, "main", wanted, limit=7, seconds=seconds)
        down += page.rows
        while page.more:
            page = await find(store, "main", wanted, page.newer, limit=7, seconds=seconds)
            down += page.rows
        up: list[TranscriptRow] = []
        page = await find(store, "main", wanted, Cursor.before(NEWEST), limit=7, seconds=seconds)
        up = page.rows + up
        while page.more:
            page = await find(store, "main", wanted, page.older, limit=7, seconds=seconds)
            up = page.rows + up
    assert down == up == [row for row in everything if fits(row, wanted)]


async def test_every_message_but_the_first_is_a_consequence_of_its_cause(project: Path) -> None:
    async with Store(project / "bigpe.db", read_only=True) as store:
        rows = await all_rows(store)
        for row in rows[::17]:
            followed = await consequences(store, "main", row.mid, limit=10**6)
            assert followed == [other for other in rows if other.parent == row.mid]
            assert (await message_row(store, "main", row.mid)) == row
            chain = await causes(store, "main", row)
            assert [row.parent, *(c.parent for c in chain)][:-1] == [c.mid for c in chain]
            assert row.kind == "RunStarted" or chain[-1].kind == "RunStarted"


async def test_the_ways_to_a_message_are_along_indices(project: Path) -> None:
    connection = sqlite3.connect(project / "bigpe.db")
    names = (
        "consequences",
        "message_by_mid",
        "message_by_seq",
        "message_by_start",
        "messages_of_kind",
        "truncated_scores",
        "effect_by_key",
        "last_seq",
    )
    for name in names:
        parameters = dict.fromkeys(
            (
                "run",
                "mid",
                "after",
                "limit",
                "seq",
                "type",
                "upto",
                "key",
                "start",
                "end",
            ),
            1,
        )
        steps = connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", parameters).fetchall()
        text = " ".join(step[3] for step in steps)
        assert "SEARCH" in text and "SCAN" not in text, f"{name}: {text}"
    connection.close()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(before=texts, text=texts, after=texts)
def test_what_a_body_says_is_found_through_the_pattern(before: str, text: str, after: str) -> None:
    """The database's filter may let too much through, never too little."""
    body = json.dumps({"kind": "x", "said": [before + text + after]}, ensure_ascii=False)
    assert has_text(body, text)
    pattern = search.pattern_of(text)
    if pattern is not None:
        connection = sqlite3.connect(":memory:")
        assert connection.execute("SELECT ? LIKE ?", (body, pattern)).fetchone() == (1,)
        connection.close()


@given(text=st.sampled_from(["golden", "Größe", "%_\\", 'say "x"', "İstanbul", "ſ"]))
def test_case_does_not_matter(text: str) -> None:
    for written in (text, text.upper(), text.lower(), text.title()):
        if written.casefold() != text.casefold():
            continue
        body = json.dumps({"said": f"so {written} it is"}, ensure_ascii=False)
        pattern = search.pattern_of(text)
        assert has_text(body, text)
        if pattern is not None:
            connection = sqlite3.connect(":memory:")
            assert connection.execute("SELECT ? LIKE ?", (body, pattern)).fetchone() == (1,)
            connection.close()


def test_keys_are_not_said() -> None:
    assert not has_text('{"naive": "a cat", "n": [1, {"naive": null}]}', "naive")
    assert has_text('{"a": [{"b": "The Naive one"}]}', "naive")


def test_an_id_is_found_by_its_beginning_and_holds_no_words() -> None:
    body = json.dumps({"mid": "8add2e" + "0" * 26, "image": "add" + "1" * 61, "text": "a bed"})
    assert not has_text(body, "add") and not has_text(body, "8add2")
    assert has_text(body, "8add2e0") and has_text(body, "BED")
