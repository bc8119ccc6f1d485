"""One prompt from an answer that is a list: the first alternative, or its parts joined."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_BULLET = re.compile(
    r"[ \t]*(?:[-*+\u2022\u2023\u25aa\u25cf\u25e6\u2043\u00b7]|\u2013)[ \t]+(?=\S)"
)
_NUMBER = re.compile(r"[ \t]*[*_]{0,2}(?:\(?\d{1,2}[.)]|\d\ufe0f?\u20e3)[*_]{0,2}[ \t]+(?=\S)")
_BOLD_LABEL = re.compile(
    r"[ \t]*(\*\*|__)[^*_\n:\uff1a]{1,40}(?:[:\uff1a][ \t]*\1|\1[ \t]*[:\uff1a])[ \t]*(?=\S)"
)
_PLAIN_LABEL = re.compile(r"[ \t]*[A-Za-z][A-Za-z /&-]{0,30}:[ \t]+(?=\S)")
_CONTENT_LABEL = re.compile(
    r"(?:subject|lighting|light|style|mood|composition|camera|colou?rs?|colou?r\s+palette|palette|"
    r"setting|background|medium|details?|action|atmosphere|environment|scene|quality|lens|angle|"
    r"texture|foreground|framing|perspective|time(?:\s+of\s+day)?|weather|pose|clothing|focus|"
    r"art\s+style|artist|resolution|tone|shot|view|location|place)\b",
    re.IGNORECASE,
)
_SHORT = 6
"""Words of a numbered item that may be a part of a prompt, not a whole one."""

Kept = Callable[[str], bool]
"""Whether a text keeps the subject of the naive prompt."""


def prompt_of_list(text: str, kept: Kept, naive: str = "") -> str:
    """The prompt of a text with lists; a text without lists is returned as it is.

    Items that each keep the subject are alternatives: the first is taken. Other items are parts of
    one prompt, and the labels of parts are left out. Numbered items are alternatives unless all are
    short and only the first keeps the subject.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) == 1 and naive.lstrip()[:3] and text.lstrip().startswith(naive.lstrip()[:3]):
        return text  # it begins as the naive prompt does, with a dash or a number
    for mark in (_NUMBER, _BULLET):
        head, items = _items(lines, mark)
        if not items or (mark is _NUMBER and not re.match(r"\W*1", lines[len(head)])):
            continue
        if mark is _NUMBER and len(items) == 1 and not head and len(lines) == 1:
            return items[0]
        return _merged(head, items, kept, numbered=mark is _NUMBER)
    if len(lines) > 1 and all(_BOLD_LABEL.match(line) for line in lines):
        return _joined([_BOLD_LABEL.sub("", line, count=1) for line in lines])
    return text


def _items(lines: Sequence[str], mark: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The lines before the list, and its items with their further lines."""
    head: list[str] = []
    items: list[str] = []
    for line in lines:
        if found := mark.match(line):
            items.append(line[found.end() :].strip())
        elif items:
            items[-1] += " " + line.strip()
        else:
            head.append(line.strip())
    return head, items


def _merged(head: list[str], items: list[str], kept: Kept, *, numbered: bool) -> str:
    labelled = [_without_label(item) for item in items]
    if all(label for label, _ in labelled):
        return _joined([*head, *(value for _, value in labelled)])
    if len(items) == 1:
        return _joined([*head, *items])
    others_keep = all(kept(item) for item in items[1:])
    short = all(len(item.split()) <= _SHORT for item in items[1:])
    if numbered:
        parts = short and not any(kept(item) for item in items[1:])
    else:
        parts = not others_keep
    return _joined([*head, *items]) if parts else items[0]


def _without_label(item: str) -> tuple[bool, str]:
    if found := _BOLD_LABEL.match(item):
        return True, item[found.end() :]
    found = _PLAIN_LABEL.match(item)
    if found and _CONTENT_LABEL.match(item):
        return True, item[found.end() :]
    return False, item


def _joined(parts: Sequence[str]) -> str:
    *first, last = [part.strip() for part in parts]
    return ", ".join([*(part.rstrip(" .,;:") for part in first), last])
