"""Takes off what surrounds a prompt: quotation marks, emphasis, LaTeX, HTML, painters' flags."""

from __future__ import annotations

import re
from typing import NamedTuple

QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u2018": "\u2019",
    "\u00ab": "\u00bb",
    "\u00bb": "\u00ab",
    "\u2039": "\u203a",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
    "\uff02": "\uff02",
}
"""The closing marks by opening mark."""
_EMPHASIS = re.compile(
    r"(?<![\w*\\])(\*{1,3})(?=[^\s*])((?:(?!\1)[^\n]|(?<=\w)\*(?=\w))+?)(?<=[^\s*\\])\1(?![\w*])"
)
_WHOLE_UNDERSCORES = re.compile(r"(_{1,3})(?=[^\s_])([^_\n](?:[^\n]*[^_\n])?)\1")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LATEX = re.compile(r"\\(?:boxed|text|textbf|textit|mathrm|mathbf|emph)\s*\{([^{}]*)\}")
_MATH = re.compile(r"\$\$?\s*([^$]+?)\s*\$\$?|\\\[\s*(.+?)\s*\\\]", re.DOTALL)
_BREAK_TAG = re.compile(r"</?(?:br|p|div|li|ul|ol)\s*/?>", re.IGNORECASE)
_STYLE_TAG = re.compile(
    r"</?(?:b|i|em|strong|u|span|h[1-6]|code|pre|blockquote)(?:\s[^<>]*)?>", re.I
)
_ENTITY = re.compile(r"&(?:(quot|#34)|(amp)|(lt)|(gt)|(#39|apos|#x27)|(nbsp));")
_CHARACTERS = ('"', "&", "<", ">", "'", " ")
_FLAG_NAMES = (
    "ar|aspect|v|version|style|no|q|quality|s|stylize|niji|chaos|c|seed|tile|iw|hd|weird|w|stop|p|"
    "profile|repeat|r|video|sref|cref|cw|sw|oref|ow|raw|draft|fast|relax|turbo|exp|upbeta|uplight|"
    "uw|test|testp|creative|sameseed|steps|cfg|width|height|negative_prompt"
)
_FLAG = re.compile(
    rf"(?:^|(?<=\s))(?:--|[\u2014\u2013])(?P<name>{_FLAG_NAMES})\b"
    r"(?:[ =]+(?P<value>(?!--|[\u2014\u2013])[^\s,.;]+(?::[^\s,.;]+)?(?:\.\d+)?))?",
    re.IGNORECASE,
)
_NO = re.compile(
    r"(?:^|(?<=\s))(?:--|[\u2014\u2013])no[ =]+(?P<value>.*?)(?=\s(?:--|[\u2014\u2013])[a-z]|$)",
    re.I | re.S,
)
_PARAMETERS = re.compile(
    r"(?:^|[\n.]\s*)(?:steps:\s*\d+\s*,.*|(?:cfg(?:\s+scale)?|sampler|aspect\s+ratio|ar)\s*:\s*"
    r"[\w.:+ ]{1,24}(?=$|\n|,\s*(?:seed|size|model|steps|sampler|cfg)\b.*$).*)$",
    re.IGNORECASE,
)


class Flagless(NamedTuple):
    """A prompt without painters' flags."""

    text: str
    negative: str
    """The value of `--no`."""
    flags: tuple[str, ...]


def without_flags(text: str, naive: str = "") -> Flagless:
    """`text` without flags such as `--ar 16:9`, except those that `naive` has."""
    own = {mark["name"].casefold() for mark in _FLAG.finditer(naive)}
    found: list[str] = []
    negative = ""
    if "no" not in own and (no := _NO.search(text)) and no["value"].strip():
        negative = no["value"].strip(" ,.;")
        found.append(" ".join(no[0].split()))
        text = text[: no.start()].rstrip() + text[no.end() :]

    def drop(mark: re.Match[str]) -> str:
        if mark["name"].casefold() in own:
            return mark[0]
        found.append(" ".join(mark[0].split()))
        return ""

    text = _FLAG.sub(drop, text)
    if (line := _PARAMETERS.search(text)) and line[0].strip(
        " .\n"
    ).casefold() not in naive.casefold():
        found.append(" ".join(line[0].split()).lstrip(". "))
        text = text[: line.start()]
    return Flagless(text.rstrip() if found else text, negative, tuple(found))


def without_markup(text: str) -> str:
    """`text` without LaTeX commands and HTML tags; escaped characters as they are meant."""
    while (plain := _LATEX.sub(r"\1", text)) != text:
        text = plain
    if (math := _MATH.fullmatch(text.strip())) is not None:
        text = math[1] or math[2] or ""
    text = _STYLE_TAG.sub("", _BREAK_TAG.sub("\n", text))
    return _ENTITY.sub(lambda found: _CHARACTERS[(found.lastindex or 1) - 1], text)


def without_emphasis(text: str) -> str:
    """`text` without Markdown emphasis. A wildcard (`__name__`) is no emphasis."""
    while (plain := _EMPHASIS.sub(r"\2", text)) != text:
        text = plain
    return _CODE.sub(r"\1", text)


def without_wrapping(text: str, naive: str = "") -> str:
    """`text` without pairs of quotation marks, emphasis and brackets around the whole."""
    while True:
        inner = _unwrapped(text.strip(), naive)
        if inner is None:
            return text.strip()
        text = inner


def _unwrapped(text: str, naive: str) -> str | None:
    if quoted_whole(text) and text not in naive:
        return text[1:-1].strip()
    if (marked := _EMPHASIS.fullmatch(text)) is not None:
        return marked[2]
    if (lined := _WHOLE_UNDERSCORES.fullmatch(text)) is not None and len(lined[1]) != 2:
        return lined[2]
    if lined is not None and " " in lined[2]:
        return lined[2]
    return None


def quoted_whole(text: str) -> bool:
    """Whether one pair of quotation marks surrounds the whole text."""
    if len(text) < 2 or text[0] not in QUOTES:
        return False
    return closing_mark(text) == len(text) - 1


def closing_mark(text: str) -> int | None:
    """The place of the mark that closes the first character of `text`; None if none does."""
    opening, closing = text[0], QUOTES[text[0]]
    depth = 0
    for place in range(1, len(text)):
        char = text[place]
        if char not in closing and char != opening:
            continue
        if opening in closing or char in "\u201c":
            kind = _side(text, place)
        else:
            kind = "closes" if char in closing else "opens"
        if kind == "opens":
            depth += 1
        elif kind == "closes" and depth:
            depth -= 1
        elif kind == "closes":
            return place
    return None


def _side(text: str, place: int) -> str:
    """Whether a mark that can open and close opens or closes here, or is neither."""
    before, after = text[place - 1], text[place + 1 : place + 2]
    if text[place] in "'\u2019" and before.isalnum() and after.isalnum():
        return "apostrophe"
    if before == "\\":
        return "apostrophe"
    if (before.isspace() or before in "([{-\u2014:") and after and not after.isspace():
        return "opens"
    if text[place] == '"' and before.isdigit() and _unmatched(text, place):
        return "inches"
    return "closes"


def _unmatched(text: str, place: int) -> bool:
    """Whether the mark has no partner: an odd number of marks, of which one ends the text."""
    return place < len(text) - 1 and text[-1] == text[place] and text.count(text[place]) % 2 == 1
