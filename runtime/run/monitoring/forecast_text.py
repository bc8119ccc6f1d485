"""Texts of a run's usage and of its forecast."""

from __future__ import annotations

from bigpe.agents.campaign.budget import BudgetForecast
from bigpe.agents.messages.usage import RESOURCES, Prices, Resource, Usage, amount
from bigpe.runtime.formatting import duration

UNITS: tuple[tuple[Resource, str], ...] = (
    ("renders", "renders"),
    ("tokens", "LLM tokens"),
    ("usd", "USD"),
)


def usage_text(used: dict[Resource, float]) -> str:
    """`84 renders, 1,240 LLM tokens, 0.12 USD`; USD only if it is not 0."""
    parts = [(used[resource], resource, unit) for resource, unit in UNITS]
    return ", ".join(
        f"{value:,.2f} {unit}" if resource == "usd" else f"{round(value):,} {unit}"
        for value, resource, unit in parts
        if value or resource != "usd"
    )


def forecast_text(expected: BudgetForecast, applied: int, seconds_per_round: float) -> str:
    """Expected usage at the end, the time left, and the budget that ends the run."""
    left = duration((expected.rounds - applied) * seconds_per_round)
    cause = f" by its budget of {expected.limit.replace('_', ' ')}" if expected.limit else ""
    return f"{usage_text(expected.used)} at its end after round {expected.rounds}{cause}, in {left}"


def amounts(used: Usage, prices: Prices) -> dict[Resource, float]:
    """The used amount of each resource."""
    return {resource: amount(used, resource, prices) for resource in RESOURCES}


def within_minutes(
    expected: BudgetForecast, applied: int, minutes: float, seconds: float, seconds_per_round: float
) -> BudgetForecast:
    """The forecast cut to `minutes` of working time (0: no limit); `seconds` are used already."""
    if not minutes or not seconds_per_round:
        return expected
    # Round up: a round that has begun is finished.
    more = max(0, -int(-(60 * minutes - seconds) // seconds_per_round))
    rounds = min(expected.rounds, applied + more)
    if rounds == expected.rounds:
        return expected
    share = rounds / expected.rounds
    return BudgetForecast(
        rounds, {r: share * value for r, value in expected.used.items()}, "minutes"
    )
