"""How texts and figures are written for people."""

from __future__ import annotations

import re


def visible(text: str) -> str:
    """`text` with control characters made visible."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def quote(text: str, limit: int = 160) -> str:
    """`text` in quotes on one line, cut at `limit` characters; control characters made visible."""
    flat = visible(" ".join(text.split()))
    return f'"{flat[: limit - 1]}…"' if len(flat) > limit else f'"{flat}"'


def points(value: float) -> str:
    """A gain on the display scale (score x 100), with its sign."""
    return f"{100 * value:+.2f}"


def escape_markdown(text: str) -> str:
    """Untrusted text that can neither end a table cell nor become markup, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#!~])", r"\\\1", " ".join(text.split()))
