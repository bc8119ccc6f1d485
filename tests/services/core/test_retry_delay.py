"""What refused requests say of the next one, in all the places where servers say it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.services.core.outages.retry_delay import is_quota_spent, retry_after_s, retry_delay_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=40)


def test_retry_after_is_read_as_the_standard_says() -> None:
    assert retry_after_s("7", NOW) == 7
    assert retry_after_s(f"{LATER:%a, %d %b %Y %H:%M:%S} GMT", NOW) == 40
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT", NOW) == 0
    assert retry_after_s("soon", NOW) is None


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "20"}, "", 20),
        ({"retry-after": "20"}, "try again in 3s", 20),
        ({"retry-after-ms": "1500", "retry-after": "2"}, "", 1.5),
        ({"X-RateLimit-Reset": str(int(1000 * LATER.timestamp()))}, "", 40),
        ({"X-RateLimit-Reset": str(int(LATER.timestamp()))}, "", 40),
        ({"RateLimit-Reset": "30"}, "", 30),
        ({"anthropic-ratelimit-requests-reset": LATER.isoformat()}, "", 40),
        (
            {
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "120ms",
                "x-ratelimit-remaining-tokens": "90",
            },
            "",
            360,
        ),
        ({}, "Rate limit reached for requests. Please try again in 20s.", 20),
        ({}, "Please try again in 6m12.5s. Visit", 372.5),
        ({}, "Rate limited, try again in 37.38 minutes", 37.38 * 60),
        ({}, "Please retry after 30 seconds.", 30),
        ({}, "try again in 120ms", 0.12),
        ({}, '{"@type": "RetryInfo", "retryDelay": "34s"}', 34),
        ({}, '{"retry_after": 5.5}', 5.5),
        ({}, '{"retry_after_ms": 500}', 0.5),
        ({}, "no luck", None),
        ({"Retry-After": "soon"}, "", None),
        ({"x-ratelimit-limit-requests": "60"}, "", None),
    ],
)
def test_the_wait_is_found_wherever_a_server_says_it(
    headers: dict[str, str], body: str, seconds: float | None
) -> None:
    assert retry_delay_s(headers, body, NOW) == (seconds and pytest.approx(seconds))


@pytest.mark.parametrize(
    ("status", "body", "spent"),
    [
        (429, "You exceeded your current quota, please check your plan and billing details.", True),
        (429, '{"error": {"code": "insufficient_quota"}}', True),
        (429, "You exceeded your current quota. Please retry in 12.5s.", False),
        (429, "Rate limit reached for requests", False),
        (402, "", True),
        (402, "Insufficient Balance", True),
        (400, "Your credit balance is too low to access the API", True),
        (400, "max_tokens is too large", False),
        (403, "insufficient credits", True),
        (403, "forbidden", False),
        (500, "insufficient_quota", False),
    ],
)
def test_a_spent_quota_is_told_from_a_limit_per_minute(status: int, body: str, spent: bool) -> None:
    assert is_quota_spent(status, body, retry_delay_s({}, body, NOW)) == spent


@given(st.text())
def test_any_text_gives_a_finite_wait_or_none(text: str) -> None:
    headers = {"Retry-After": text, "X-RateLimit-Reset": text}
    waits = [retry_after_s(text, NOW), retry_delay_s(headers, text, NOW)]
    for seconds in (*waits, retry_delay_s({}, f"try again in {text}", NOW)):
        assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
