"""Searching professional prompts: no text breaks a query."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from bigpe.services.prompt_data.library import MOST_TERMS, deduplicate, fts_query

ROWS = ("a cat on the beach", "two owls NEAR a castle", "l'été à la plage", "rocket OR ship")
syntax = st.lists(
    st.sampled_from(
        ["cat", '"', "'", "NEAR(", "NEAR/2", "*", "(", ")", "AND", "OR", "NOT", "^", ":", "text:"]
        + [
            "-",
            "+",
            "{a b}",
            "\0",
            "🐱",
            "\ud800",
            "é",
            "e\u0301",
            "\u0301",
            "²",
            "ⅷ",
            "猫",
            "_",
            "",
        ]
    )
).map(" ".join)
anything = st.one_of(st.text(), syntax, syntax.map(lambda text: text.replace(" ", "")))


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(text, tokenize='porter unicode61')")
        connection.executemany("INSERT INTO f VALUES (?)", [(row,) for row in ROWS])
        yield connection


def search(database: sqlite3.Connection, text: str) -> list[str]:
    query = fts_query(text)
    if not query:
        return []
    statement = "SELECT text FROM f WHERE f MATCH ? ORDER BY bm25(f)"
    return [row[0] for row in database.execute(statement, (query,))]


@given(text=anything)
def test_no_text_breaks_the_search(database: sqlite3.Connection, text: str) -> None:
    search(database, text)


@given(text=anything)
def test_a_known_word_is_found_whatever_stands_around_it(
    database: sqlite3.Connection, text: str
) -> None:
    assert ROWS[0] in search(database, f"cat {text}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("owl", [ROWS[1]]),
        ("NEAR(owl castle)", [ROWS[1]]),
        ("ROCKETS!", [ROWS[3]]),
        ("ete", [ROWS[2]]),
        ("e\u0301te\u0301", [ROWS[2]]),
        ("the of in a", []),
        ("", []),
        ("text:*", []),
        ('") OR 1=1 --', []),
    ],
)
def test_words_are_found_and_syntax_is_not_obeyed(
    database: sqlite3.Connection, text: str, found: list[str]
) -> None:
    assert search(database, text) == found


def test_queries_are_bounded_and_hold_each_word_once() -> None:
    assert fts_query("Cat cat, the CAT dog") == '"cat" OR "dog"'
    assert fts_query(" ".join(f"w{n}" for n in range(10_000))).count(" OR ") == MOST_TERMS - 1


@given(st.lists(st.text(alphabet="abc ", max_size=12), max_size=15), st.sampled_from([60.0, 90.0]))
def test_deduplicate_keeps_the_first_of_each_kind(texts: list[str], threshold: float) -> None:
    kept = deduplicate(texts, threshold)
    rest = iter(texts)
    assert all(text in rest for text in kept)
    assert kept[:1] == texts[:1]
    for index, text in enumerate(kept):
        assert all(fuzz.token_sort_ratio(text, earlier) < threshold for earlier in kept[:index])
    for text in texts:
        assert any(fuzz.token_sort_ratio(text, other) >= threshold for other in kept)


def test_deduplicate_ignores_order_and_case() -> None:
    assert deduplicate(["a red cat", "Cat a RED", "an owl"]) == ["a red cat", "an owl"]
