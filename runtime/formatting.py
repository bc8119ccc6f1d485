"""Formats texts and figures for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bigpe.services.core.values import cut_text


def visible(text: str) -> str:
    """`text` with control characters made visible."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def quote(text: str, limit: int = 160) -> str:
    """`text` in quotes on one line, cut at `limit` characters; control characters made visible."""
    flat = visible(" ".join(text.split()))
    return f'"{cut_text(flat, limit)}"'


def first_line(text: str) -> str:
    """The first line of a text, for a cell of a table, with "…" if there are more."""
    first, _, rest = text.strip().partition("\n")
    return f"{first} …" if rest else first


def counted(number: int, noun: str) -> str:
    """`1 pair`, `3 pairs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def points(value: float) -> str:
    """A gain on the display scale (score x 100), with its sign."""
    return f"{100 * value:+.2f}"


def falling(gain: float | None) -> tuple[bool, float]:
    """A sort key: the largest gain first, None last."""
    return (gain is None, -(gain or 0.0))


def interval(lo: float | None, hi: float | None) -> str:
    """The bounds of a gain on the display scale; "-" where there are none."""
    return "-" if lo is None or hi is None else f"[{points(lo)}, {points(hi)}]"


def estimate(
    centre: float | None,
    lo: float | None,
    hi: float | None,
    *,
    scale: float = 1.0,
    form: str = "+.2f",
    absent: str = "-",
) -> str:
    """A mean with its bounds, each times `scale`; `absent` where there is no mean."""
    if centre is None:
        return absent
    mean = f"{scale * centre:{form}}"
    if lo is None or hi is None:
        return mean
    return f"{mean} [{scale * lo:{form}}, {scale * hi:{form}}]"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.2 h` or `2.1 days`."""
    for size, unit, most in ((1, "s", 90), (60, "min", 90), (3600, "h", 48)):
        if seconds < size * most:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def escape_markdown(text: str) -> str:
    """Escape untrusted text on one line, so that it cannot end a table cell or become markup."""
    return re.sub(r"([\\`*_\[\]<>|#!~])", r"\\\1", " ".join(text.split()))


def escape_cell(text: str) -> str:
    """Escape text so that it cannot end a table cell or become HTML; other Markdown stays."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def markdown_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    escape: Callable[[str], str] = escape_cell,
    right: bool = False,
) -> str:
    """A Markdown table with escaped cells; `right` aligns all columns but the first."""
    first, *others = (f"| {' | '.join(map(escape, cells))} |" for cells in (head, *rows))
    rule = f"| --- |{' ---: |' * (len(head) - 1)}" if right else f"|{'---|' * len(head)}"
    return "\n".join([first, rule, *others]) + "\n"
