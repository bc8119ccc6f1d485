"""Parts of a naive prompt that a rewrite keeps letter for letter.

They are text to be drawn (in quotation marks), the syntax of painters, and what the user names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_TAG = re.compile(r"<[A-Za-z][\w ]*:[^<>\n]+>")
"""<lora:name:0.8>, <lyco:...>, <hypernet:...>, <embedding:...>"""
_SYNTAX = (
    re.compile(r"\((?:[^()\n\\]|\\.)+:\s*-?\d*\.?\d+\)"),  # (red car:1.3)
    re.compile(r"\[[^\[\]\n]*:[^\[\]\n]*\]"),  # [cat:dog:0.5]
    re.compile(r"\[[^\[\]\n|]+(?:\|[^\[\]\n|]+)+\]"),  # [cat|dog]
    re.compile(r"\{[^{}\n]*\|[^{}\n]*\}"),  # {red|blue}
    re.compile(r"__[\w/*.~-]+?__"),
    re.compile(r"\bBREAK\b"),
    re.compile(r"\bembedding:[\w./-]+"),
)
_QUOTED = (
    re.compile(r"(?<![\w\"])\"(?=\S)([^\"\n]+?)(?<=\S)\"(?!\w)"),
    re.compile(r"[\u201c\u201e](?=\S)([^\u201c\u201d\u201e\n]+?)(?<=\S)[\u201d\u201c]"),
    re.compile(r"\u00ab\s?([^\u00ab\u00bb\n]+?)\s?\u00bb"),
    re.compile(r"\u300c([^\u300c\u300d\n]+?)\u300d"),
    re.compile(r"\u300e([^\u300e\u300f\n]+?)\u300f"),
    re.compile(r"(?<![\w'])'(?=\S)([^'\n]{2,}(?:'\w[^'\n]*)*?)(?<=\S)'(?!\w)"),
    re.compile(
        r"(?<![\w\u2019])\u2018(?=\S)([^\u2018\u2019\n]{2,}(?:\u2019\w[^\u2018\u2019\n]*)*?)(?<=\S)\u2019(?!\w)"
    ),
)
_SAME = {
    "'": "['\u2018\u2019\u02bc]",
    '"': '["\u201c\u201d\u201e]',
    " ": r"\s+",
    "-": "[-\u2010\u2011\u2013]",
}
_ALIKE = {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2011": "-", "\u2010": "-"}


class Kept(NamedTuple):
    """A rewrite with what could be put back."""

    text: str
    lost: tuple[str, ...]
    """Protected parts that are missing and cannot be put back."""
    notes: tuple[str, ...]


def keep_protected(naive: str, text: str, protect: Sequence[str] = ()) -> Kept:
    """Put tags such as `<lora:name:0.8>` back where they are lost, and find other lost parts.

    `protect`: further names and words that the rewrite keeps if `naive` has them.
    """
    text, notes = _with_tags(naive, text)
    lost: list[str] = []
    for part in _parts(naive, protect):
        if text.count(part) >= naive.count(part) or part in lost:
            continue
        if (other := re.search(_loosely(part), text)) and part not in text:
            text = text[: other.start()] + part + text[other.end() :]
        if part not in text or (part == "BREAK" and text.count(part) < naive.count(part)):
            lost.append(part)
    return Kept(text, tuple(lost), tuple(notes))


def _parts(naive: str, protect: Sequence[str]) -> list[str]:
    """The protected parts of a naive prompt except tags; of quoted text, what is inside."""
    plain = _TAG.sub(" ", naive)
    found = [match[0] for form in _SYNTAX for match in form.finditer(plain)]
    found += [match[1] for form in _QUOTED for match in form.finditer(plain)]
    found += [name for name in protect if name in naive]
    return list(dict.fromkeys(found))


def _with_tags(naive: str, text: str) -> tuple[str, list[str]]:
    notes: list[str] = []
    front: list[str] = []
    back: list[str] = []
    for match in _TAG.finditer(naive):
        tag = match[0]
        if text.count(tag) > naive.count(tag):
            first = text.index(tag) + len(tag)
            text = text[:first] + " ".join(text[first:].replace(tag, " ").split(" "))
            text = re.sub(r" {2,}", " ", text).strip()
            notes.append(f"left out another {tag}")
        if tag in text:
            continue
        name = tag[1:-1].rsplit(":", 1)[0] if tag.count(":") > 1 else tag[1:-1]
        if (altered := re.search(rf"<{re.escape(name)}(?::[^<>\n]*)?>", text)) is not None:
            text = text[: altered.start()] + tag + text[altered.end() :]
        else:
            (front if not naive[: match.start()].strip(" ,") or front else back).append(tag)
        notes.append(f"put back {tag}")
    return " ".join([*front, text, *back]), notes


def _loosely(part: str) -> str:
    """A pattern of the part with other marks for apostrophes, quotation marks and dashes."""
    plain = "".join(_ALIKE.get(char, char) for char in " ".join(part.split()))
    return "".join(_SAME.get(char) or re.escape(char) for char in plain)
