"""Words, terms and subjects of prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigpe.agents.evidence.terms import (
    STOP_WORDS,
    contains_term,
    parts_of,
    subject_kept,
    subject_named,
    subject_words,
    terms_of,
    units,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Cat, golden-hour!", ["a", "cat", "golden-hour"]),
        ("artist\u2019s", ["artist's"]),
        ("golden\u2011hour", ["golden-hour"]),
        ("\uff21\uff22 \ufb01ne stra\u00dfe", ["ab", "fine", "strasse"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("c\u200ba\u00adt", ["cat"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),
        ("\u4e00\u53ea\u732b", ["\u4e00", "\u53ea", "\u732b"]),
        ("snake_case --ar 16:9", ["snake", "case", "ar", "16", "9"]),
        (" \x00\n\u2764\ufe0f", []),
    ],
)
def test_words_have_one_spelling(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(max_size=40))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_words_of_words_are_the_same(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) == once


def test_terms_are_new_clauses_and_runs_of_words() -> None:
    found = terms_of(
        "a cat", "A cat on a wall, golden hour light at dusk with soft shadows and 8k, cats"
    )
    assert found == {
        "wall",
        *("golden", "hour", "light", "dusk"),
        *("golden hour", "hour light", "golden hour light", "light at dusk"),
        *("soft", "shadows", "soft shadows", "8k"),
    }


def test_a_whole_clause_of_four_words_is_a_term_and_of_five_is_not() -> None:
    assert "very one two three four" not in terms_of("x", "x, one two three four five")
    assert "one two three four" in terms_of("x", "x, one two three four")


def test_a_copy_and_an_empty_rewrite_add_nothing() -> None:
    assert terms_of("two red cats", "Two red cats.") == frozenset()
    assert terms_of("a cat", "") == frozenset()
    assert terms_of("", "") == frozenset()


PROMPT = st.lists(
    st.sampled_from("cat cats dog red golden hour light in with and , the of soft".split()),
    max_size=12,
).map(" ".join)


@given(PROMPT, PROMPT)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_every_term_is_in_the_rewrite_and_shares_no_word_with_the_naive_prompt(
    naive: str, rewrite: str
) -> None:
    for term in terms_of(naive, rewrite):
        listed = words(term)
        assert contains_term(rewrite, term)
        assert not set(listed) & set(words(naive))
        assert listed[0] not in STOP_WORDS and listed[-1] not in STOP_WORDS
        assert len(listed) <= 4


@given(st.text(max_size=20), st.text(max_size=40))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_terms_of_any_text_are_found_again(naive: str, rewrite: str) -> None:
    assert all(contains_term(rewrite, term) for term in terms_of(naive, rewrite))


def test_a_term_is_found_at_word_boundaries_only() -> None:
    assert contains_term("a Golden  hour, soft", "golden HOUR")
    assert not contains_term("a goldenhour", "golden")
    assert not contains_term("hour of golden", "golden hour")
    assert not contains_term("anything", " ,")


@pytest.mark.parametrize(
    ("naive", "expected"),
    [
        ("a picture of a cat", {"cat"}),
        ("A close-up photograph of two dogs in the rain", {"two", "dog"}),
        ("red balls, on a table", {"red", "ball"}),
        ("a cup of tea", {"cup"}),
        ("a bowl with fruit", {"bowl"}),
        ("in the rain", {"rain"}),
        ("picture of", {"picture"}),
        ("the", set()),
        ("boxes", {"box"}),
        ("fairies on a bus", {"fairy"}),
        ("a bus", {"bus"}),
    ],
)
def test_subject_words(naive: str, expected: set[str]) -> None:
    assert subject_words(naive) == expected


@pytest.mark.parametrize(
    ("item", "many"),
    [
        ("cat", "cats"),
        ("movie", "movies"),
        ("fairy", "fairies"),
        ("zombie", "zombies"),
        ("box", "boxes"),
        ("bus", "buses"),
        ("horse", "horses"),
        ("dress", "dresses"),
        ("leaf", "leaves"),
        ("knife", "knives"),
        ("cave", "caves"),
        ("hero", "heroes"),
        ("cactus", "cactuses"),
        ("menu", "menus"),
        ("woman", "women"),
        ("child", "children"),
    ],
)
def test_a_subject_is_kept_in_singular_or_plural(item: str, many: str) -> None:
    assert subject_kept(f"a {item}", f"some {many}, golden")
    assert subject_kept(many, f"the {item} at dusk")


def test_a_subject_is_dropped() -> None:
    assert not subject_kept("a red cat", "a cat, golden")
    assert not subject_kept("a cat", "a category of dogs")
    assert not subject_kept("a cat", "")
    assert subject_kept("\u4e00\u53ea\u732b", "\u91d1\u8272\u7684\u4e00\u53ea\u732b")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a red-hot fox", ["a", "red-hot", "fox"]),
        ("红狐狸", ["红狐", "狐狸"]),
        ("猫 4k 画质", ["猫", "4k", "画质"]),
        ("рыжая лиса", ["рыжая", "лиса"]),
        ("", []),
    ],
)
def test_units_are_words_or_pairs_of_ideographs(text: str, found: list[str]) -> None:
    assert units(text) == found


def test_terms_with_ideographs_are_whole_clauses() -> None:
    found = terms_of("一只猫在海边", "一只猫在海边，金色的夕阳光线，在海边的油画，4k 画质")
    assert found == {"金色的夕阳光线", "4k 画质"}
    assert all(contains_term("写金色的夕阳光线和4k 画质。", term) for term in found)
    assert parts_of("金色的光，soft light") == ["金色的光", "soft", "light"]


@pytest.mark.parametrize(
    ("naive", "text", "named"),
    [
        ("大海", "画出大海", True),
        ("大海", "放大画面，不要海报", False),
        ("一只猫在海边", "例如一只猫", True),
        ("一只猫在海边", "只写一个主体，像猫", False),
        ("人", "让人物清楚", False),
        ("кот", "пиши про кот", True),
        ("рыжая лиса", "рыжая охра", False),
        ("a fox", "draw the foxes", True),
    ],
)
def test_a_subject_is_named_by_its_whole_words(naive: str, text: str, named: bool) -> None:
    assert subject_named(naive, text) == named


@given(st.text("aб猫狐 ,", max_size=30), st.text("aб猫狐 ,", max_size=30))
def test_a_text_names_no_part_that_it_lacks(text: str, other: str) -> None:
    assert all(contains_term(text, part) for part in parts_of(text))
    assert all(contains_term(text, term) for term in terms_of(other, text))
    assert terms_of(text, text) == frozenset()
