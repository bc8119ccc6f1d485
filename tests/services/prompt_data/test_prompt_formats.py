"""Prompt files as people have them: formats, encodings, compression and columns."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigpe.services.core.errors import DataError
from bigpe.services.prompt_data.files import LONGEST, read_prompts, read_rows
from bigpe.services.prompt_data.readers import sources

NAIVE = ("a cat on the beach", "a dog in the snow", "a red car", "a castle at night")
TURNS = [
    [{"role": "system", "content": "Draw."}, {"role": "user", "content": text}] for text in NAIVE
]


def texts(path: Path, column: str | None = None) -> list[str]:
    return [prompt.text for prompt in read_prompts(path, column=column).accepted]


def made(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(header: str, between: str, after: str, end: str = "\n") -> str:
    return end.join([header, *(f"{n}{between}{text}{after}" for n, text in enumerate(NAIVE))])


def of_parquet(column: str, values: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(arrow.table({"id": list(range(len(values))), column: values}), file)
    return file.getvalue()


def of_sheets(**sheets: Sequence[Sequence[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def lines(values: Sequence[Any]) -> str:
    return "\n".join(json.dumps(value) for value in values)


LINES = "\n".join(NAIVE)
COCO = {
    "info": {},
    "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(4)],
    "annotations": [{"image_id": n, "id": n, "caption": text} for n, text in enumerate(NAIVE)],
}
FILES: dict[str, str | bytes] = {
    "PROMPTS.TXT": LINES,
    "noext": LINES,
    "cr.txt": LINES.replace("\n", "\r"),
    "crlf.txt": LINES.replace("\n", "\r\n") + "\r\n",
    "comments.txt": f"# my prompts\n#\n## 2024\n{LINES}\n\n# end\n",
    "joined.txt": f"\ufeff{NAIVE[0]}\n\ufeff" + "\n".join(NAIVE[1:]),
    "utf16.txt": LINES.encode("utf-16"),
    "utf16be.txt": b"\xfe\xff" + LINES.encode("utf-16-be"),
    "utf16_without_mark.txt": LINES.encode("utf-16-le"),
    "utf32.txt": LINES.encode("utf-32"),
    "utf16.csv": table("id,Prompt", ",", "").encode("utf-16"),
    "list.md": "# Prompts\n\nSome text.\n\n" + "".join(f"- {text}\n" for text in NAIVE),
    "numbered.md": "".join(f"{n}. {text}\n" for n, text in enumerate(NAIVE)),
    "wrapped.md": "* a cat on\n  the beach\n" + "".join(f"* {text}\n" for text in NAIVE[1:]),
    "bom.csv": "\ufeff" + table("id,prompt,Category", ",", ",Colors", "\r\n"),
    "cr.csv": table("id,prompt", ",", "", "\r"),
    "drawbench.csv": table("id,Prompts,Category", ",", ",Colors"),
    "english.csv": table("id,Prompt (en),prompt_id", ",", ",7"),
    "laion.csv": table("URL,TEXT", ",", ""),
    "semicolon.csv": table("id;prompt;style", ";", ";none", "\r\n"),
    "pipe.csv": table("id|prompt", "|", ""),
    "flickr.csv": table("image| caption", "| ", ""),
    "excel.csv": "sep=;\r\n" + table("id;prompt", ";", "", "\r\n"),
    "commented.csv": "# exported\n\n" + table("id,prompt", ",", ""),
    "oneheaderless.csv": LINES,
    "tabs.tsv": table("n\tprompt\tcat", "\t", "\tx"),
    "named_wrongly.csv": table("n\tprompt\tcat", "\t", "\tx"),
    "list.json": json.dumps(NAIVE),
    "objects.json": json.dumps([{"id": 1, "Prompt": text} for text in NAIVE], indent=1),
    "dict.json": json.dumps({"prompts": NAIVE}),
    "other_key.json": json.dumps({"version": 2, "items": NAIVE}),
    "records.json": json.dumps({"rows": [{"prompt": text} for text in NAIVE]}),
    "captions_val2017.json": json.dumps(COCO),
    "columns.json": json.dumps({"id": [1, 2, 3, 4], "prompt": NAIVE}),
    "pandas.json": json.dumps({"prompt": {str(n): text for n, text in enumerate(NAIVE)}}),
    "split.json": json.dumps({"columns": ["prompt", "n"], "data": [[t, 1] for t in NAIVE]}),
    "by_name.json": json.dumps({f"{n}.png": text for n, text in enumerate(NAIVE)}),
    "kohya.json": json.dumps({f"{n}.png": {"caption": text} for n, text in enumerate(NAIVE)}),
    "really_lines.json": lines([{"prompt": text} for text in NAIVE]),
    "really_a_list.jsonl": json.dumps([{"prompt": text} for text in NAIVE], indent=2),
    "inputs.jsonl": lines([{"Prompt": text, "id": 0} for text in NAIVE]),
    "plural.ndjson": lines([{"inputs": text} for text in NAIVE]),
    "chat.jsonl": lines([{"messages": turns} for turns in TURNS]),
    "trl.jsonl": lines([{"prompt": turns} for turns in TURNS]),
    "sharegpt.jsonl": lines(
        [{"conversations": [{"from": "human", "value": text}]} for text in NAIVE]
    ),
    "parts.jsonl": lines(
        [
            {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
            for text in NAIVE
        ]
    ),
    "jsonl_without_suffix": lines([{"prompt": text} for text in NAIVE]),
    "plain.parquet": of_parquet("prompt", NAIVE),
    "dictenc.parquet": of_parquet("prompt", arrow.array(NAIVE).dictionary_encode()),
    "bytes.parquet": of_parquet("TEXT", [text.encode() for text in NAIVE]),
    "list.parquet": of_parquet("caption", [list(NAIVE[:2]), list(NAIVE[2:])]),
    "conv.parquet": of_parquet("conversations", TURNS),
    "parquet_in_disguise.txt": of_parquet("prompt", NAIVE),
    "sheet.xlsx": of_sheets(
        Notes=[["made by me"]], Prompts=[["id", "Prompts"], *enumerate(NAIVE), [None, None]]
    ),
    "sheet_in_disguise.csv": of_sheets(Sheet1=[["prompt"], *([text] for text in NAIVE)]),
}
"""A file of each kind that people have; each holds `NAIVE`."""


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_gives_its_prompts(name: str, tmp_path: Path) -> None:
    assert texts(made(tmp_path, name, FILES[name])) == list(NAIVE)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: arrow.compress(data, "zstd", asbytes=True),
    "": gzip.compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    "name", ["crlf.txt", "drawbench.csv", "inputs.jsonl", "list.json", "list.parquet", "sheet.xlsx"]
)
def test_each_kind_of_file_may_be_compressed(name: str, suffix: str, tmp_path: Path) -> None:
    content = FILES[name]
    packed = PACKERS[suffix](content.encode() if isinstance(content, str) else content)
    assert texts(made(tmp_path, name + suffix, packed)) == list(NAIVE)


def test_only_a_number_sign_with_a_space_begins_a_comment(tmp_path: Path) -> None:
    path = made(tmp_path, "a.txt", "# no prompt\n#1 fan\n#sunset over water\n #2\n")
    assert texts(path) == ["#1 fan", "#sunset over water", "#2"]


def test_a_quote_that_never_closes_is_text_where_the_cells_are_even(tmp_path: Path) -> None:
    cells = ['a "quoted thing', 'the word "START"', '"START" on a shirt', '"never closed', "last"]
    for name, between in (("a.tsv", "\t"), ("a.csv", "\t"), ("b.csv", "|"), ("c.csv", ",")):
        rows = [f"{cell}{between}x{between}y" for cell in ["Prompt", *cells]]
        assert texts(made(tmp_path, name, "\n".join(rows))) == cells


def test_tabs_with_quotes_as_spreadsheets_write_them(tmp_path: Path) -> None:
    path = made(tmp_path, "a.tsv", 'prompt\tn\n"a ""red"" car"\t1\n"a sign,\n\ttwo lines"\t2\n')
    assert texts(path) == ['a "red" car', "a sign, two lines"]
    mixed = made(tmp_path, "b.tsv", 'prompt\tn\n"a ""red"" car"\t1\n"open\t2\n')
    assert texts(mixed) == ['a "red" car', '"open']


@pytest.mark.parametrize(
    ("name", "content", "choice"),
    [
        ("a.csv", "prompt_en,prompt_de\na,b\n", "prompt_en, prompt_de"),
        ("a.csv", "Prompt,prompt\na,b\n", "Prompt, prompt"),
        ("a.csv", '"a cat",x\n"a dog",x\n', "--column NUMBER"),
        ("a.csv", "sentences\na cat\na dog\n", "it has: sentences"),
        ("a.csv", "a cat\na dog, asleep\n", "name it .txt"),
        ("a.jsonl", '{"sentence": "a cat", "id": 0}', "it has: sentence, id"),
        ("a.json", '{"train": ["a"], "test": ["b"]}', "--column LIST"),
        ("a.json", '{"x": {"a": 1}, "y": 2}', "it has: x, y"),
        ("a.xlsx", of_sheets(A=[["prompt"], ["a"]], B=[["prompt"], ["b"]]), "SHEET!COLUMN"),
        ("a.xlsx", of_sheets(A=[["a cat"], ["a dog"]]), "--column NUMBER"),
        ("a.parquet", of_parquet("sentence", NAIVE), "it has: id, sentence"),
    ],
)
def test_what_is_ambiguous_is_an_error_that_names_the_choice(
    name: str, content: str | bytes, choice: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read_prompts(made(tmp_path, name, content))
    assert choice in str(caught.value) and "--column" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.csv", ",".join(NAIVE[:1]) + ",x\na dog in the snow,x\n", "1"),
        ("a.tsv", "1\ta cat on the beach\n2\ta dog in the snow\n", "2"),
        ("a.csv", "sentences\na cat on the beach\na dog in the snow\n", "Sentences"),
        ("a.json", json.dumps({"train": NAIVE[:2], "test": ["x"]}), "train"),
        ("a.json", json.dumps({"a": [{"x": t} for t in NAIVE[:2]], "b": [{"x": 1}]}), "a.x"),
        ("a.jsonl", lines([{"meta": {"say": text}} for text in NAIVE[:2]]), "meta.say"),
        ("a.xlsx", of_sheets(A=[["prompt"], *zip(NAIVE[:2])], B=[["prompt"]]), "A!prompt"),
        ("a.xlsx", of_sheets(A=[[text] for text in NAIVE[:2]]), "1"),
    ],
)  # fmt: skip
def test_the_option_column_settles_it(
    name: str, content: str | bytes, column: str, tmp_path: Path
) -> None:
    assert texts(made(tmp_path, name, content), column) == list(NAIVE[:2])


def test_a_folder_of_caption_files(tmp_path: Path) -> None:
    (tmp_path / "10_cat").mkdir()
    for number, text in enumerate(NAIVE):
        made(tmp_path / "10_cat", f"{number}.txt", f"{text}\n")
        made(tmp_path / "10_cat", f"{number}.png", b"\x89PNG")
    made(tmp_path / "10_cat", "._0.txt", b"\0\5\x16\7")
    made(tmp_path / "10_cat", "9.caption", "")
    file = read_prompts(tmp_path)
    assert [prompt.text for prompt in file.accepted] == list(NAIVE)
    assert [row.reason for row in file.rejected] == ["10_cat/9.caption is empty"]


def zipped(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "un café\nune forêt".encode("latin-1"), r"line 1: byte 0xe9 is not UTF-8.*iconv"),
        ("a.json", '[\n"café"]'.encode("latin-1"), r"line 2: byte 0xe9 is not UTF-8"),
        ("a.txt", LINES.encode("utf-16")[:-1], "is not utf-16"),
        ("a.zip", zipped(prompts="a cat"), "is an archive; unpack it"),
        ("a.xlsx", b"PK\3\4" + b"\0" * 40, "cannot be read"),
        ("a.xlsx", of_sheets(A=[["prompt"], ["x"]])[:-30], "cannot be read"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel 97"),
        ("a.txt.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], "cannot be read"),
        ("binary", bytes(range(256)), "unknown kind of file"),
        ("a.json", '{"prompts": [', "line 1, column 14: not JSON"),
        ("a.json", "[" * 100_000, "not usable JSON"),
        ("a.md", "only text", "has no list"),
    ],
)
def test_files_that_cannot_be_read_say_why(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        read_prompts(made(tmp_path, name, content))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_UNPACKED", 10_000)
    monkeypatch.setattr("bigpe.services.prompt_data.readers.tables.LARGEST_UNPACKED", 10_000)
    bomb = gzip.compress(b"a cat\n" * 10_000, mtime=0)
    for name in ("a.txt.gz", "a.csv.gz", "a.json.gz", "a.parquet.gz"):
        with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
            read_prompts(made(tmp_path, name, bomb))
    rows = [["prompt"], *([f"prompt {n}"] for n in range(3000))]
    with pytest.raises(DataError, match="unpacks to more than"):
        read_prompts(made(tmp_path, "a.xlsx", of_sheets(A=rows)))
    monkeypatch.setattr(sources, "LARGEST_DOCUMENT", 100)
    with pytest.raises(DataError, match="too many for one JSON document"):
        read_prompts(made(tmp_path, "b.json", json.dumps(["x" * 200])))
    monkeypatch.setattr(sources, "LONGEST_LINE", 100)
    with pytest.raises(DataError, match="line 1 has 100 characters or more"):
        read_prompts(made(tmp_path, "c.txt", "x" * 101))


def test_rows_stay_in_their_places(tmp_path: Path) -> None:
    path = made(tmp_path, "a.txt", "# mine\na cat\n\na cat\nb\x07ell\n")
    found = [(row.line, row.text, row.skipped) for row in read_rows(path)]
    assert found == [
        (1, "# mine", True), (2, "a cat", False), (3, "", True), (4, "a cat", False),
        (5, "b\ufffdell", False),
    ]  # fmt: skip
    assert [bool(row.fault) for row in read_rows(path)] == [True, False, True, False, True]


# -- what was written comes back -------------------------------------------------------------------

PROMPT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")) | st.just(" "),
    max_size=40,
).map(lambda text: " ".join(text.replace("\ufeff", "").split()))
PROMPTS = st.lists(PROMPT.filter(bool), min_size=2, max_size=6, unique=True)


def as_csv(prompts: list[str], delimiter: str) -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("n", "prompt"), *enumerate(prompts)])
    return file.getvalue()


WRITERS: dict[str, Callable[[list[str]], str | bytes]] = {
    "a.csv": lambda prompts: as_csv(prompts, ","),
    "b.csv": lambda prompts: as_csv(prompts, ";").encode("utf-16"),
    "a.tsv": lambda prompts: as_csv(prompts, "\t"),
    "a.json": json.dumps,
    "b.json": lambda prompts: json.dumps({"rows": [{"prompt": p} for p in prompts]}, indent=1),
    "a.jsonl": lines,
    "b.jsonl.gz": lambda prompts: gzip.compress(lines([{"prompt": p} for p in prompts]).encode()),
    "a.parquet": lambda prompts: of_parquet("prompt", prompts),
}


@given(PROMPTS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_was_written_is_read_back(tmp_path: Path, prompts: list[str]) -> None:
    expected: list[str] = []
    for row in prompts:
        normal = unicodedata.normalize("NFC", row)
        expected += [normal] if len(normal) <= LONGEST and normal not in expected else []
    for name, write in WRITERS.items():
        assert texts(made(tmp_path, name, write(prompts))) == expected, name
    plain = [text for text in expected if not text.startswith("#")]
    if plain:
        assert texts(made(tmp_path, "a.txt", "\n".join(plain))) == plain
