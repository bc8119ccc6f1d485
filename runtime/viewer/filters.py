"""The templates' filters, which format figures, times and texts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from bigpe.agents.statistics.intervals import Interval
from bigpe.services.core.values import cut_text

ACTORS = ("coordinator", "generator", "renderer", "scorer", "gradient", "modifier", "session")
"""Actors with their own colour."""

FOLDED_CHARACTERS = 280
FOLDED_LINES = 4
"""A text of more characters, or of more lines, is folded."""
OPENING = 160
"""Characters of a folded text that stay visible."""


def points(value: float | None) -> str:
    """A gain on the display scale (score x 100), with its sign."""
    return "–" if value is None else f"{100 * value:+.2f}".replace("-", "−")


def score(value: float) -> str:
    """A score on the display scale."""
    return f"{100 * value:.2f}".replace("-", "−")


def interval(gain: Interval | None) -> str:
    """The bounds of an interval, x 100."""
    if gain is None or gain.lo is None or gain.hi is None:
        return "–"
    return f"{points(gain.lo)} … {points(gain.hi)}"


def sign(value: float | None) -> str:
    """A class for the colour of a gain."""
    return "none" if value is None or value == 0 else "up" if value > 0 else "down"


def clock(ts: float) -> str:
    """The local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(ts))


def day(ts: float) -> str:
    """The local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ts))


def date(ts: float) -> str:
    """The local date."""
    return time.strftime("%Y-%m-%d", time.localtime(ts))


def duration(seconds: float) -> str:
    """A span of time in its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def count(number: float) -> str:
    """A whole number with thousands marked."""
    return f"{number:,.0f}".replace(",", "\u202f")


def usd(amount: float) -> str:
    """An amount of USD; small amounts have more digits."""
    return f"{amount:,.2f} USD" if amount >= 1 else f"{amount:.4f} USD"


def short(mid: str) -> str:
    """The first eight characters of an id."""
    return mid[:8]


def hue(actor: str) -> str:
    """A class for the colour of an actor."""
    return f"by-{actor}" if actor in ACTORS else "by-other"


def is_long(text: str) -> bool:
    """Whether a page folds the text."""
    return len(text) > FOLDED_CHARACTERS or text.count("\n") >= FOLDED_LINES


def opening(text: str) -> str:
    """The beginning of a folded text, on one line."""
    flat = " ".join(text.split())
    return cut_text(flat, OPENING + 1) if len(flat) > OPENING else f"{flat}…"


def pretty(body: str) -> str:
    """JSON, indented."""
    return json.dumps(json.loads(body), indent=2, ensure_ascii=False)


def marked(text: str, wanted: str) -> Markup:
    """`text`, escaped, with each occurrence of `wanted` marked, case-insensitive."""
    if not wanted:
        return escape(text)
    parts: list[Markup] = []
    folded, sought, at = text.casefold(), wanted.casefold(), 0
    # If case folding changes the length ("ß"), indexes differ and nothing is marked.
    while len(folded) == len(text) and (hit := folded.find(sought, at)) >= 0:
        end = hit + len(sought)
        parts += [escape(text[at:hit]), Markup("<mark>{}</mark>").format(text[hit:end])]
        at = end
    return Markup("").join([*parts, escape(text[at:])])


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        points,
        score,
        interval,
        sign,
        clock,
        day,
        date,
        duration,
        count,
        usd,
        short,
        hue,
        is_long,
        opening,
        pretty,
        marked,
    )
}
FILTERS["number"] = FILTERS.pop("count")  # jinja2 has a filter of that name
