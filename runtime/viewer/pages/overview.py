"""The overview page: results, their intervals, and costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from bigpe.agents.campaign.budget import forecast
from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.run.monitoring.forecast_text import amounts, usage_text
from bigpe.runtime.transcript.summary import ArmSummary, RunSummary, ordered
from bigpe.runtime.viewer.context import Context
from bigpe.runtime.viewer.pages.charts import Whisker, gain_chart, whiskers
from bigpe.runtime.viewer.pages.evaluation import chosen_id

RECENT_ROUNDS = 12
MOST_ARMS = 200
"""Most instructions in the table; the lineage has all."""
PACE_ROUNDS = 20
"""Rounds whose pace a forecast uses."""
MADE = {
    "pictures painted": ("ImageRendered", "renders"),
    "pictures scored": ("ImageScored", "scores"),
    "language model exchanges": ("LlmTurn", "llm_calls"),
}


class ArmLine(NamedTuple):
    """A line of the table of instructions."""

    arm: ArmSummary
    gain: Interval | None
    whisker: Whisker | None
    bound: float | None
    """The policy's upper bound, in its units; None for a retired instruction."""


class Outlay(NamedTuple):
    """Cost of the finished rounds, by the run's prices."""

    usd: float
    limit: float
    """0: no limit."""
    expected: str
    """Expected usage at the run's end; empty if there is no forecast or the run has ended."""


class Made(NamedTuple):
    """An amount that the run has made, and its limit (0: no limit)."""

    what: str
    amount: float
    limit: float


async def show(context: Context, request: Request) -> tuple[str, Mapping[str, Any]]:
    """The page."""
    return "pages/overview.html", {"here": "overview", **await overview_of(context)}


async def overview_of(context: Context) -> dict[str, Any]:
    """The values of the page."""
    facts = context.reader.facts
    counts = await context.store.rows("count_messages_by_sender", run=context.run)
    arms = arm_lines(facts)
    return {
        "best": next((line for line in arms if line.arm.instruction.id == facts.best), None),
        "chosen": await chosen_id(context),
        "arms": arms[:MOST_ARMS],
        "hidden_arms": len(arms) - len(arms[:MOST_ARMS]),
        "waiting": sum(arm.state == "waiting" for arm in facts.arms.values()),
        "chart": gain_chart(
            facts.curve, facts.rounds, facts.plan.rounds if facts.plan else 0, facts.best
        ),
        "recent": facts.rounds[: -RECENT_ROUNDS - 1 : -1],
        "in_flight": facts.in_flight(),
        "actors": _by_actor(counts),
        "made": _made(facts, counts),
        "left_s": _seconds_left(facts),
        "outlay": outlay_of(facts),
        "findings": context.reader.findings(),
    }


def arm_lines(facts: RunSummary) -> list[ArmLine]:
    """All instructions that were admitted, by falling mean gain."""
    prior = facts.pooled_variance()
    admitted = [arm for arm in facts.arms.values() if arm.state != "waiting"]
    gains = {arm.instruction.id: facts.interval(arm, prior) for arm in admitted}
    bounds = facts.upper_bounds()
    arms = ordered(admitted, gains)
    lines = whiskers([gains[arm.instruction.id] for arm in arms])
    return [
        ArmLine(arm, gains[arm.instruction.id], line, bounds.get(arm.instruction.id))
        for arm, line in zip(arms, lines, strict=True)
    ]


def _by_actor(counts: Sequence[Any]) -> list[tuple[str, int, int]]:
    """(actor, messages, tokens), by falling number of messages."""
    totals: dict[str, tuple[int, int]] = {}
    for row in counts:
        messages, tokens = totals.get(row["sender"] or "session", (0, 0))
        totals[row["sender"] or "session"] = (messages + row["n"], tokens + row["tokens"])
    return sorted(((a, n, t) for a, (n, t) in totals.items()), key=lambda line: (-line[1], line[0]))


def _made(facts: RunSummary, counts: Sequence[Any]) -> list[Made]:
    limits = facts.plan.limits.model_dump() if facts.plan else {}
    made = [
        Made(what, sum(row["n"] for row in counts if row["type"] == kind), limits.get(limit, 0))
        for what, (kind, limit) in MADE.items()
    ]
    tokens = sum(row["tokens"] for row in counts)
    return [*made, Made("tokens", tokens, limits.get("tokens", 0))]


def outlay_of(facts: RunSummary) -> Outlay | None:
    """Cost so far and expected usage at the end; None before the first round."""
    plan = facts.plan
    if plan is None or not facts.rounds:
        return None
    applied, pilot = facts.rounds[-1].round, 2 * plan.pilot_prompts
    expected = forecast(facts.used, applied, plan.rounds, plan.limits, plan.prices, pilot)
    over = facts.stopped is not None or expected is None or expected.rounds <= applied
    use = "" if over or expected is None else usage_text(expected.used)
    return Outlay(amounts(facts.used, plan.prices)["usd"], plan.limits.usd, use)


def _seconds_left(facts: RunSummary) -> float | None:
    """Seconds left at the pace of the latest rounds; None without a pace or after the end."""
    times = facts.settled_at[-PACE_ROUNDS - 1 :]
    if facts.plan is None or facts.stopped or len(times) < 3:
        return None
    pace = (times[-1] - times[0]) / (len(times) - 1)
    left = facts.plan.rounds - facts.rounds[-1].round
    return max(0.0, left * pace - (time.time() - times[-1])) if left > 0 else None
