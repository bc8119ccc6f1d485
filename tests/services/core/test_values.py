"""Texts that are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.services.core.values import LONGEST_WORD, cut_text


@pytest.mark.parametrize(
    ("text", "limit", "found"),
    [
        ("золотистый свет", 15, "золотистый свет"),
        ("золотистый закатный свет", 15, "золотистый…"),
        ("一只红狐狸在雪地里", 5, "一只红狐…"),
        ("x" * 99, 50, "x" * 49 + "…"),
        ("a, b", 3, "a,…"),
    ],
)
def test_a_cut_is_between_words(text: str, limit: int, found: str) -> None:
    assert cut_text(text, limit) == found


@given(st.text("aб猫 ,", max_size=60), st.integers(2, 50))
def test_a_cut_text_is_a_beginning_within_its_limit(text: str, limit: int) -> None:
    found = cut_text(text, limit)
    assert len(found) <= limit
    assert found == text or text.startswith(found[:-1])
    assert len(text) <= limit or len(found) > limit - 2 - LONGEST_WORD - text.count(" ")
