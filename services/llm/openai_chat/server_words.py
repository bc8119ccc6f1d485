"""What a server says of a request that it refuses: its own words, from an error body of any shape.

Shapes: OpenAI `{"error": {"message"}}`, xAI `{"error": "text"}`, Mistral `{"message", "detail"}`,
FastAPI `{"detail": [{"loc", "msg"}]}`, TGI `{"error", "error_type"}`, Gemini `[{"error": {}}]`,
OpenRouter `{"error": {"metadata": {"raw"}}}`, plain text and web pages.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

SHOWN = 400
"""Characters of a server's words that an error message quotes."""
DEEPEST = 6
"""Levels of an error body that are read."""
WORD_KEYS = (
    "error", "errors", "message", "msg", "errormessage", "errormsg", "errordescription", "detail",
    "details", "metadata", "raw", "reason", "statusmsg", "baseresp", "fieldviolations",
    "description", "fault", "faultstring", "cause", "title", "exception",
)  # fmt: skip
"""Keys whose values hold sentences, in the order in which they are read. Case and
underscores do not count."""
UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class HttpFailure(Exception):
    """An answer that is an error: by its status, or by its body although the status is 200."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """`text`: the whole body. `status`: the body's own code if the answer's status is 200."""
        super().__init__(f"HTTP {status}: {text[:SHOWN]}")
        self.status = status
        self.text = text
        self.headers: Mapping[str, str] = headers or {}

    @property
    def words(self) -> str:
        """The server's own words."""
        return server_words(self.text)


def server_words(text: str) -> str:
    """The sentences of an error body, at most `SHOWN` characters; the body if it has none."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return _shortened(_plain(text))
    found = dict.fromkeys(" ".join(words.split()) for words in _sentences(body, 0))
    return _shortened("; ".join(word for word in found if word) or text)


def has_words(body: Any) -> bool:
    """Whether a parsed body holds sentences where error bodies have them."""
    return any(words.strip() for words in _sentences(body, 0))


def named_parameters(text: str) -> list[str]:
    """The parameters that an error body names in a field of its own, for example `param`."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return list(dict.fromkeys(_names(body, 0)))


def _sentences(value: Any, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        return
    if isinstance(value, str):
        yield from _inner(value, depth)
    elif isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _sentences(item, depth + 1)
    elif isinstance(value, dict):
        table = cast(dict[str, Any], value)
        if isinstance(table.get("msg"), str) and "loc" in table:
            place = ".".join(map(str, _listed(table["loc"])))
            yield f"{place}: {table['msg']}"
            return
        plain = {str(key).lower().replace("_", ""): inner for key, inner in table.items()}
        for key in WORD_KEYS:
            yield from _sentences(plain.get(key), depth + 1)


def _inner(text: str, depth: int) -> Iterator[str]:
    """A string, or the sentences of the JSON that it holds: gateways quote a server's body."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            found = list(_sentences(json.loads(text), depth + 1))
        except (ValueError, RecursionError):
            found = []
        if found:
            yield from found
            return
    yield _plain(text)


def _names(value: Any, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        return
    if isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _names(item, depth + 1)
    elif isinstance(value, dict):
        for key, inner in cast(dict[str, Any], value).items():
            if key in ("param", "parameter", "field") and isinstance(inner, str):
                yield inner
            elif key == "loc":
                yield ".".join(str(part) for part in _listed(inner) if part != "body")
            elif key != "input":  # FastAPI repeats the value there
                yield from _names(inner, depth + 1)


def _listed(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else [value]


def _plain(text: str) -> str:
    """`text` without the tags of a web page; its title first."""
    if not re.search(r"<(!doctype|html|head|body|title)\b", text, re.IGNORECASE):
        return text
    title = TITLE.search(text)
    visible = re.sub(r"<[^>]+>", " ", UNSEEN.sub(" ", text))
    words = " ".join(html.unescape(f"{title[1] if title else ''} {visible}").split())
    return f"a web page: {words}"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
