"""The forecast of a run from its settings and from what a probe measured.

It is an upper bound of calls: rounds share pictures of naive prompts, and not every round asks for
a new instruction.
"""

from __future__ import annotations

import math

from bigpe.agents.messages.plan import EVIDENCE_WORDED, FREE_FORM
from bigpe.agents.messages.usage import FREE
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.prices import PriceTable
from bigpe.runtime.run.probe.rows import Measured
from bigpe.runtime.run.style import search_settings
from bigpe.services.core.values import LlmUsage, Value

REASONING_PROMPT_TOKENS = {EVIDENCE_WORDED: 500, FREE_FORM: 4_000}
"""Prompt tokens of a usual request for a gradient or an instruction, by style. Free-form requests
are kept below 6,000 tokens."""
ROLES = ("generator", "gradient", "modifier")


class RunForecast(Value):
    """The most that a run will ask for, and its time and cost."""

    rounds: int
    llm_calls: int
    tokens: int | None
    """None if no answer was measured."""
    pictures: int
    scores: int
    usd: float | None
    """None if a price or the tokens of a call are not known."""
    minutes: float | None
    """None if the time of a call is not known."""
    limit: str = ""
    """The budget that ends the run before; empty if none does."""

    @property
    def text(self) -> str:
        """The forecast in words."""
        usd = "USD unknown" if self.usd is None else f"{self.usd:.2f} USD"
        minutes = "an unknown time" if self.minutes is None else _minutes(self.minutes)
        end = f"; [budget] {self.limit} ends it before" if self.limit else ""
        return (
            f"{self.rounds} rounds: at most {self.llm_calls:,} LLM calls, {self.pictures:,} "
            f"pictures and {self.scores:,} scores; about {minutes}, {usd}{end}"
        )


def _minutes(minutes: float) -> str:
    return f"{60 * minutes:.0f} s" if minutes < 1 else f"{minutes:,.0f} min"


def run_forecast(
    config: BigpeConfig,
    train: int,
    measured: Measured,
    prices: PriceTable,
    *,
    parallel: int,
    style: str,
) -> RunForecast:
    """The forecast of a whole run.

    Args:
        config: The configuration of the run.
        train: Number of train prompts.
        measured: What a probe measured.
        prices: Prices of the models.
        parallel: Pictures that the renderer paints at a time.
        style: The reasoning style of the run.
    """
    run = config.run
    tasks = run.rounds * min(run.batch_size, train) * run.seeds_per_prompt
    attempts = measured.rewrite.calls if measured.rewrite else 1
    reasons = run.rounds * run.improvements
    search = search_settings(config, style, train)
    calls = {
        "generator": tasks * attempts,
        "gradient": reasons,
        "modifier": reasons * search.proposals,
    }
    pictures = 2 * run.pilot_prompts + tasks * (3 if config.data.professional else 2)
    usage = _usage(tasks, calls, measured, style)
    forecast = RunForecast(
        rounds=run.rounds,
        llm_calls=sum(calls.values()),
        tokens=sum(used.tokens for used in usage.values()) if usage else None,
        pictures=pictures,
        scores=pictures,
        usd=_usd(usage, pictures, prices),
        minutes=_time(config, pictures, measured, parallel, search.in_flight.rounds),
    )
    return forecast.model_copy(update={"limit": _limit(config, forecast)})


def _usage(
    tasks: int, calls: dict[str, int], measured: Measured, style: str
) -> dict[str, LlmUsage]:
    """Usage by role; empty if not every role's model was measured."""
    if measured.rewrite is None or not all(role in measured.answer for role in ROLES):
        return {}
    least = REASONING_PROMPT_TOKENS.get(style, REASONING_PROMPT_TOKENS[FREE_FORM])
    usage = {"generator": _times(measured.rewrite, tasks)}
    for role in ("gradient", "modifier"):
        each = measured.answer[role]
        longer = each.model_copy(update={"prompt_tokens": max(each.prompt_tokens, least)})
        usage[role] = _times(longer, calls[role])
    return usage


def _times(used: LlmUsage, count: int) -> LlmUsage:
    return LlmUsage(**{name: count * value for name, value in used.model_dump().items()})


def _usd(usage: dict[str, LlmUsage], pictures: int, prices: PriceTable) -> float | None:
    each = (prices.each("render"), prices.each("score"))
    total = sum(price * pictures for price in each if price is not None)
    for role in ROLES:
        price = prices.llm(role)
        if price is None or (price != FREE and not usage):
            return None
        total += price.usd(usage[role]) if usage else 0.0
    return None if None in each else total


def _time(
    config: BigpeConfig, pictures: int, measured: Measured, parallel: int, in_flight: int
) -> float | None:
    """Minutes: rounds overlap, but all wait for the renderer and for the scorer."""
    seconds, run = measured.seconds, config.run
    if not {"render", "score", *ROLES} <= seconds.keys():
        return None
    pilot = 2 * run.pilot_prompts
    painted = seconds["render"] / parallel + seconds["score"]
    batch = run.batch_size * run.seeds_per_prompt
    in_turn = math.ceil(batch / config.llm_for("generator").concurrency)
    asking = in_turn * seconds["generator"] + run.improvements * (
        seconds["gradient"] + seconds["modifier"]
    )
    in_rounds = (pictures - pilot) * painted
    one_after_other = in_rounds + run.rounds * asking
    return (pilot * painted + max(in_rounds, one_after_other / in_flight)) / 60


def _limit(config: BigpeConfig, forecast: RunForecast) -> str:
    """The budget that the forecast passes by the largest factor."""
    wanted = {
        "renders": forecast.pictures,
        "scores": forecast.scores,
        "llm_calls": forecast.llm_calls,
        "tokens": forecast.tokens,
        "usd": forecast.usd,
        "minutes": forecast.minutes,
    }
    shares = {
        name: amount / limit
        for name, amount in wanted.items()
        if amount and (limit := getattr(config.budget, name))
    }
    name = max(shares, key=shares.__getitem__, default="")
    return name if name and shares[name] > 1 else ""
