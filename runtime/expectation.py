"""What a run has used and how it is expected to end, told to people."""

from __future__ import annotations

from bigpe.agents.budget_account import Forecast
from bigpe.agents.usage import RESOURCES, Prices, Resource, Usage, amount

SHOWN: tuple[tuple[Resource, str], ...] = (
    ("renders", "renders"),
    ("tokens", "LLM tokens"),
    ("usd", "USD"),
)


def told_use(used: dict[Resource, float]) -> str:
    """`84 renders, 1,240 LLM tokens, 0.12 USD`; USD only where something has a price."""
    shown = [(used[resource], resource, unit) for resource, unit in SHOWN]
    return ", ".join(
        f"{value:,.2f} {unit}" if resource == "usd" else f"{round(value):,} {unit}"
        for value, resource, unit in shown
        if value or resource != "usd"
    )


def told_end(expected: Forecast, applied: int, seconds_a_round: float) -> str:
    """What is expected at the end, when that is, and what brings it about."""
    left = told_time((expected.rounds - applied) * seconds_a_round)
    cause = f" by its budget of {expected.limit.replace('_', ' ')}" if expected.limit else ""
    return f"{told_use(expected.used)} at its end after round {expected.rounds}{cause}, in {left}"


def told_time(seconds: float) -> str:
    """`40 s`, `12 min`, `3.2 h` or `2.1 days`."""
    for size, unit, most in ((1, "s", 90), (60, "min", 90), (3600, "h", 48)):
        if seconds < size * most:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def amounts(used: Usage, prices: Prices) -> dict[Resource, float]:
    """How much of every resource."""
    return {resource: amount(used, resource, prices) for resource in RESOURCES}


def within_minutes(
    expected: Forecast, applied: int, minutes: float, seconds: float, seconds_a_round: float
) -> Forecast:
    """The forecast of a run that may work for so many minutes (0: any), of which `seconds` are
    gone."""
    if not minutes or not seconds_a_round:
        return expected
    # A round that has begun is finished.
    more = max(0, -int(-(60 * minutes - seconds) // seconds_a_round))
    rounds = min(expected.rounds, applied + more)
    if rounds == expected.rounds:
        return expected
    share = rounds / expected.rounds
    return Forecast(rounds, {r: share * value for r, value in expected.used.items()}, "minutes")
