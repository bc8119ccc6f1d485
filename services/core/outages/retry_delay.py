"""What a refused request says of the next one: seconds to wait, or that no quota is left.

Servers say it in many places: Retry-After, rate limit headers, fields or sentences of the body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds per unit, by the first letters of the unit; longer beginnings come first."""
EPOCH_S, EPOCH_MS = 1e9, 1e12
"""A larger number is a time since 1970, in seconds or in milliseconds."""
PART = re.compile(r"(\d+(?:\.\d+)?)\s*(milliseconds?|ms|days?|d|hours?|h|min\w*|m|s\w*)", re.I)
FIELD = re.compile(
    r"[\"'](?:retry_?delay|retry_?after\w*)\\?[\"']\s*:\s*\\?[\"']?(\d[\w. ]*)", re.IGNORECASE
)
SENTENCE = re.compile(
    r"(?:again|retry(?:ing)?|wait)\s+(?:in|after|for|at least)\s+(?:about\s+)?"
    r"(\d+(?:\.\d+)?(?:\s*(?:milliseconds?|ms|days?|d|hours?|h|min\w*|m|s\w*)(?:\s*\d+(?:\.\d+)?)?)*)",
    re.IGNORECASE,
)
QUOTA_STATUSES = frozenset({400, 402, 403, 429})
QUOTA = re.compile(
    r"insufficient[_ ](?:quota|credits?|balance|funds)|exceeded your current quota|quota exhausted"
    r"|billing[_ ](?:hard[_ ]limit|not[_ ]active)|credit balance is too low|out of credits"
    r"|not enough credits|payment required|spend(?:ing)?[_ ]limit"
    r"|(?:monthly|daily) (?:usage )?quota",
    re.IGNORECASE,
)


def retry_after_s(header: str, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3); None if unreadable."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def retry_delay_s(headers: Mapping[str, str], body: str, now: datetime) -> float | None:
    """Seconds that a refused request asks to wait; None if it does not say.

    Args:
        headers: The headers of the answer.
        body: The text of the answer, or a part of it.
        now: The time of the answer.
    """
    plain = {name.lower(): value for name, value in headers.items()}
    if (milliseconds := _number(plain.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    seconds = retry_after_s(plain.get("retry-after", ""), now)
    return seconds if seconds is not None else _in_body(body) or _at_reset(plain, now)


def is_quota_spent(status: int, body: str, delay_s: float | None) -> bool:
    """Whether an account has no quota left. A limit per minute says when to come back instead."""
    if status == 402:
        return True
    return delay_s is None and status in QUOTA_STATUSES and QUOTA.search(body) is not None


def _in_body(body: str) -> float | None:
    if field := FIELD.search(body):
        in_ms = "ms" in field[0].split(":")[0].lower() or "millis" in field[0].lower()
        seconds = _duration_s(field[1])
        return seconds / 1000 if in_ms and seconds is not None else seconds
    sentence = SENTENCE.search(body)
    return _duration_s(sentence[1]) if sentence else None


def _at_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """By rate limit headers: the longest reset of a spent limit, else the shortest reset."""
    resets: dict[str, float] = {}
    for name, value in headers.items():
        if "ratelimit" in name and "reset" in name and (wait := _until_s(value, now)) is not None:
            resets[name] = wait
    spent = [
        wait
        for name, wait in resets.items()
        if headers.get(name.replace("reset", "remaining")) == "0"
    ]
    return max(spent) if spent else min(resets.values(), default=None)


def _until_s(text: str, now: datetime) -> float | None:
    """Seconds until a time: a duration, a number of seconds, or a time since 1970 or of a date."""
    number = _number(text)
    if number is not None:
        if number >= EPOCH_S:
            at = number / 1000 if number >= EPOCH_MS else number
            return max(0.0, at - now.timestamp())
        return number
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return _duration_s(text)
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())


def _duration_s(text: str) -> float | None:
    """The seconds of a text like "6m0s", "1.5 minutes" or "20"; None for another text."""
    number = _number(text.strip().rstrip("."))
    if number is not None:
        return number
    parts = PART.findall(text)
    if not parts:
        return None
    total = 0.0
    for amount, unit in parts:
        total += float(amount) * next(s for u, s in UNITS.items() if unit.lower().startswith(u))
    return total if math.isfinite(total) else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
