"""What the pages show: differences, marks, figures, charts."""

from __future__ import annotations

import html
import math
import re

from hypothesis import given
from hypothesis import strategies as st

from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.transcript.summary import CurvePoint, RoundSummary
from bigpe.runtime.viewer.filters import duration, is_long, marked, opening, points
from bigpe.runtime.viewer.pages.charts import gain_chart, whiskers
from bigpe.runtime.viewer.pages.text_diff import LONGEST, LONGEST_TEXT, SENTENCES, text_difference

texts = st.text(st.sampled_from("ab <>&\"',.é😀\n"), max_size=40) | st.text(max_size=60)
gains = st.floats(-0.9, 0.9).filter(lambda gain: gain == 0 or abs(gain) > 1e-12)


@given(old=texts, new=texts)
def test_a_difference_holds_both_texts(old: str, new: str) -> None:
    pieces = text_difference(old, new)
    assert "".join(p.text for p in pieces if p.kind != "new") == old
    assert "".join(p.text for p in pieces if p.kind != "gone") == new
    if old == new:
        assert {p.kind for p in pieces} <= {"same"}


def test_what_both_have_is_the_same() -> None:
    pieces = text_difference("Add details.", "Add more details.")
    assert [(p.kind, p.text) for p in pieces] == [
        ("same", "Add"),
        ("new", " more"),
        ("same", " details."),
    ]
    whole = text_difference("a" * (LONGEST + 1), "b")
    assert [p.kind for p in whole] == ["gone", "new"]


@given(text=texts, wanted=texts)
def test_marking_changes_no_text_and_lets_no_markup_through(text: str, wanted: str) -> None:
    displayed = str(marked(text, wanted))
    bare = displayed.replace("<mark>", "").replace("</mark>", "")
    assert "<" not in bare and ">" not in bare
    assert html.unescape(bare) == text
    if wanted and wanted in text and len(text.casefold()) == len(text):
        assert "<mark>" in displayed


@given(gain=st.floats(-1, 1))
def test_a_gain_has_its_sign(gain: float) -> None:
    assert re.fullmatch(r"[+−]\d+\.\d\d", points(gain))


@given(seconds=st.floats(0, 1e7))
def test_a_duration_has_at_most_two_units(seconds: float) -> None:
    assert re.fullmatch(r"[\d.]+ s|\d+ (min \d+ s|h \d+ min|d \d+ h)", duration(seconds))


@given(
    means=st.lists(st.tuples(gains, gains, st.booleans()), min_size=1, max_size=30),
    planned=st.integers(1, 1000),
)
def test_a_chart_stays_in_its_frame(means: list[tuple[float, float, bool]], planned: int) -> None:
    curve = [
        CurvePoint(i, "a", Interval(m, *((m - abs(w), m + abs(w)) if existing else (None, None))))
        for i, (m, w, existing) in enumerate(means, start=1)
    ]
    rounds = [
        RoundSummary(i, "a", m if existing else None, 3, 0, 0, (), (), 0, "a")
        for i, (_, m, existing) in enumerate(means, start=1)
    ]
    chart = gain_chart(curve, rounds, planned, "a")
    assert chart is not None
    numbers = re.findall(r"-?[\d.]+", chart.band + chart.line)
    pairs = list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
    for x, y in [*pairs, *((dot.x, dot.y) for dot in chart.dots)]:
        assert 0 <= x <= chart.width + 0.1 and 0 <= y <= chart.height + 0.1
    assert 1 <= len(chart.rows) <= 12 and len(chart.columns) <= 14
    assert all(0 <= tick.at <= chart.height for tick in chart.rows)


@given(st.lists(st.none() | st.tuples(gains, gains), max_size=10))
def test_whiskers_lie_on_one_scale(given_: list[tuple[float, float] | None]) -> None:
    intervals = [g and Interval(g[0], g[0] - abs(g[1]), g[0] + abs(g[1])) for g in given_]
    lines = whiskers(intervals)
    assert [line is None for line in lines] == [g is None for g in given_]
    existing = [(g, line) for g, line in zip(intervals, lines, strict=True) if g and line]
    for gain, line in existing:
        assert 0 <= line.lo <= line.mean <= line.hi <= 100
        assert (line.mean >= line.zero) == (gain.mean >= 0) or math.isclose(
            line.mean, line.zero, abs_tol=0.02
        )


OLD = "Describe the subject first. Use golden light.\nName no photograph."
NEW = "Describe the subject first. Use pale golden light.\nKeep it short. Name no photograph."


def test_a_changed_sentence_is_compared_by_words_and_others_stay_whole() -> None:
    pieces = text_difference(OLD, NEW)
    assert pieces[0] == ("same", "Describe the subject first. ")
    assert ("new", " pale") in pieces and ("same", "Name no photograph.") in pieces
    assert "".join(p.text for p in pieces if p.kind == "gone") == ""


def test_chinese_is_compared_by_characters_and_sentences() -> None:
    pieces = text_difference("先写主体。用金色的光。", "先写主体。用银色的光。")
    assert [tuple(p) for p in pieces] == [
        ("same", "先写主体。"),
        ("same", "用"),
        ("gone", "金"),
        ("new", "银"),
        ("same", "色的光。"),
    ]


@given(text=texts)
def test_only_long_texts_fold(text: str) -> None:
    assert not is_long(text) or text.count("\n") > 1
    assert is_long(text * 300) or not text
    assert "\n" not in opening(text)


def test_a_text_that_would_take_minutes_counts_as_replaced() -> None:
    for old in ("a\n" * (SENTENCES + 1), "a" * LONGEST_TEXT + "."):
        pieces = text_difference(old, f"b {old}")
        assert [piece.kind for piece in pieces] == ["gone", "new"]
