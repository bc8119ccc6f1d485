"""Prompt files of every kind, good and bad."""

from __future__ import annotations

import csv
import json
import os
import unicodedata
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.files import EXCERPT, PromptFile, read_prompts


def made(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def taken(file: PromptFile) -> list[tuple[int, str]]:
    return [(prompt.line, prompt.text) for prompt in file.accepted]


def refused(file: PromptFile) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in file.rejected]


def test_txt_takes_lines_and_skips_blank_ones(tmp_path: Path) -> None:
    path = made(tmp_path, "a.TXT", "\ufeffa cat\r\n\r\n  an   old\towl \n<b>x</b>\n\n")
    file = read_prompts(path, column="unused")
    assert taken(file) == [(1, "a cat"), (3, "an old owl"), (4, "<b>x</b>")]
    assert file.rejected == ()


def test_bad_lines_are_rejected_with_their_reasons(tmp_path: Path) -> None:
    lines = ["a cat", "b\x07ell", "nul\0", "x" * 5000, "a  cat", "y" * 2000, "form\x0cfeed"]
    file = read_prompts(made(tmp_path, "a.txt", "\n".join(lines)))
    assert taken(file) == [(1, "a cat"), (6, "y" * 2000)]
    assert refused(file) == [
        (2, "holds the control character U+0007"),
        (3, "holds the control character U+0000"),
        (4, "5,000 characters; at most 2,000 are taken"),
        (5, "the same prompt as line 1"),
        (7, "holds the control character U+000C"),
    ]
    assert file.rejected[0].text == "b\ufffdell"
    assert len(file.rejected[2].text) == EXCERPT


def test_other_scripts_are_fine_and_become_nfc(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "un château")
    lines = f"{decomposed}\n猫と海\n🐱🚀\nملعب\nun château\n"
    file = read_prompts(made(tmp_path, "a.txt", lines))
    assert [text for _, text in taken(file)] == ["un château", "猫と海", "🐱🚀", "ملعب"]
    assert refused(file) == [(5, "the same prompt as line 1")]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_another_encoding_names_the_byte_and_the_line(tmp_path: Path, name: str) -> None:
    head = "prompt\n" + '"plain ascii"\n' * 20_000
    path = made(tmp_path, name, head.encode() + '"château"\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"line 20002: byte 0xe2 is not UTF-8"):
        read_prompts(path)


def test_csv_finds_its_column_and_counts_lines(tmp_path: Path) -> None:
    content = (
        'id, Caption ,by\r\n1,"a cat,\r\nasleep",me\r\n\r\n2,,me\r\n3\r\n4,"an ""old"" owl",me\r\n'
    )
    file = read_prompts(made(tmp_path, "a.csv", content))
    assert taken(file) == [(2, "a cat, asleep"), (7, 'an "old" owl')]
    assert refused(file) == [(5, "empty"), (6, "has only 1 of the columns")]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_of_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    content = f"id{delimiter}text\n1{delimiter}a cat, asleep\n"
    assert taken(read_prompts(made(tmp_path, "a.csv", content))) == [(2, "a cat, asleep")]


def test_csv_prefers_the_named_column(tmp_path: Path) -> None:
    path = made(tmp_path, "a.csv", "prompt,mine\na,b\n")
    assert taken(read_prompts(path, column="mine")) == [(2, "b")]
    with pytest.raises(DataError, match=r"no column nope; it has: prompt, mine\..*--column"):
        read_prompts(path, column="nope")


def test_csv_with_a_broken_row_goes_on(tmp_path: Path) -> None:
    file = read_prompts(made(tmp_path, "a.csv", 'prompt\n"a cat"x\nan owl\n'))
    assert taken(file) == [(3, "an owl")]
    assert refused(file)[0][0] == 2 and refused(file)[0][1].startswith("not csv")


def test_csv_with_an_open_quote_names_where_it_opens(tmp_path: Path) -> None:
    rest = "an owl\n" * (csv.field_size_limit() // 5)
    for tail in ("an owl\n", rest):
        with pytest.raises(DataError, match="line 3: a quote is opened here and not closed"):
            read_prompts(made(tmp_path, "a.csv", f'prompt\na cat\n"a dog\n{tail}'))


def test_csv_with_an_endless_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="header cannot be read"):
        read_prompts(made(tmp_path, "a.csv", "x" * 200_000))


def test_jsonl_takes_objects_and_strings(tmp_path: Path) -> None:
    lines = [
        '{"text": "a cat", "n": 1}',
        '"an owl"',
        '{"n": 2}',
        "{broken",
        "",
        '{"text": 5}',
        '{"text": null}',
        '"half \\ud800"',
        "[" * 100_000,
        "9" * 5000,
        "[" * 900 + "]" * 900,
    ]
    file = read_prompts(made(tmp_path, "a.jsonl", "\n".join(lines)))
    assert taken(file) == [(1, "a cat"), (2, "an owl")]
    reasons = dict(refused(file))
    assert sorted(reasons) == [3, 4, 6, 7, 8, 9, 10, 11]
    assert reasons[3].startswith("has no prompt or text")
    assert reasons[4].startswith("not JSON")
    assert reasons[6] == "not text but int" and reasons[7] == "empty"
    assert reasons[8] == "holds the half character U+D800"
    assert "nested too deeply" in reasons[9] and "number too long" in reasons[10]


def test_jsonl_without_the_column_lists_what_it_has(tmp_path: Path) -> None:
    path = made(tmp_path, "a.jsonl", '{"id": 1, "words": "a"}\n{"tags": 2}\n')
    with pytest.raises(DataError, match=r"no column prompt or text.* it has: id, words, tags"):
        read_prompts(path)
    assert taken(read_prompts(path, column="words")) == [(1, "a")]


def test_parquet_rows_are_counted_and_checked(tmp_path: Path) -> None:
    values = ["a cat", None, "an owl", "a cat"] + [f"prompt {n}" for n in range(70_000)]
    parquet.write_table(
        arrow.table({"id": list(range(len(values))), "Prompt": values}), tmp_path / "a.parquet"
    )
    file = read_prompts(tmp_path / "a.parquet")
    assert taken(file)[:2] == [(1, "a cat"), (3, "an owl")] and len(file.accepted) == 70_002
    assert refused(file) == [(2, "empty"), (4, "the same prompt as line 1")]


def test_parquet_without_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"prompt": [1, 2], "b": ["x", "y"]}), path)
    with pytest.raises(DataError, match=r"no usable prompt \(2 rejected; .*not text but int"):
        read_prompts(path)
    with pytest.raises(DataError, match="no column c; it has: prompt, b"):
        read_prompts(path, column="c")


def test_parquet_bytes_that_are_not_utf_8_are_one_bad_row(tmp_path: Path) -> None:
    raw = arrow.array([b"\xff\xfe", b"fine"], arrow.binary())
    words = arrow.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    parquet.write_table(arrow.table({"text": words}), tmp_path / "a.parquet")
    file = read_prompts(tmp_path / "a.parquet")
    assert taken(file) == [(2, "fine")] and refused(file) == [(1, "not UTF-8")]


@pytest.mark.parametrize("content", [b"PAR1 no parquet at all", b"\0" * 100, b"\x80\x04K\x01."])
def test_a_broken_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(made(tmp_path, "a.parquet", content))


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": ["a", "b"]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(path)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.parquet"])
def test_files_that_are_empty_or_not_there_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_prompts(tmp_path / name)
    with pytest.raises(DataError, match="is empty"):
        read_prompts(made(tmp_path, name, ""))


def test_a_file_of_blank_lines_holds_no_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable prompt \(0 rejected\)"):
        read_prompts(made(tmp_path, "a.txt", "\n  \n"))


def test_folders_pipes_and_unknown_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(DataError, match="is a folder without caption files"):
        read_prompts(tmp_path / "b.txt")
    os.mkfifo(tmp_path / "c.txt")
    with pytest.raises(DataError, match="no ordinary file"):
        read_prompts(tmp_path / "c.txt")
    with pytest.raises(DataError, match=r"unknown kind of file; use \.txt, "):
        read_prompts(made(tmp_path, "a.pkl", b"\x80\x04K\x01."))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_an_unreadable_file_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = made(tmp_path, name, json.dumps({"text": "x"}))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_prompts(path)
