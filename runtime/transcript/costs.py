"""Requested and paid calls of a run, per actor, instruction or round.

Requested calls come from the transcript, and budgets count them. They do not depend on kills or on
the project's call cache. Paid calls are those that were made. USD are by the present prices.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from bigpe.runtime.project.prices import PriceTable
from bigpe.services.core.values import Instruction, LlmUsage
from bigpe.services.store.database import Store

By = Literal["role", "instruction", "round"]
PILOT = "pilot"


@dataclass
class Spent:
    """A sum of calls, with their tokens, time and cost."""

    llm_calls: int = 0
    tokens: int = 0
    """Prompt and completion tokens, with the two kinds that follow."""
    reasoning_tokens: int = 0
    """Thoughts, a part of the completion tokens."""
    cached_tokens: int = 0
    """A part of the prompt tokens that the server had cached."""
    renders: int = 0
    scores: int = 0
    failed: int = 0
    """Failed calls; only for paid calls."""
    unsettled: int = 0
    """Calls in flight, now or when a process died; they may be billed."""
    seconds: float = 0.0
    """Working time of the models; only for paid calls."""
    usd: float = 0.0
    """Cost of the calls whose price is known."""
    unpriced: int = 0
    """Calls whose price is not known."""

    def add(self, other: Spent) -> None:
        """Add another sum."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Line:
    """The calls of an actor, an instruction or a round."""

    requested: Spent = field(default_factory=Spent)
    paid: Spent = field(default_factory=Spent)


@dataclass
class Ledger:
    """A run's lines by name, in order of first use, and their sum."""

    by: By
    lines: dict[str, Line]
    texts: dict[str, str]
    """Texts of the instructions by id; empty unless `by` is "instruction"."""
    prices: PriceTable

    @property
    def total(self) -> Line:
        """The sum of all lines."""
        total = Line()
        for line in self.lines.values():
            total.requested.add(line.requested)
            total.paid.add(line.paid)
        return total

    def as_json(self) -> dict[str, Any]:
        """The ledger as JSON; times in seconds, cost in USD."""
        return {
            "by": self.by,
            "lines": [
                {self.by: name, **_line_json(line)}
                | ({"text": self.texts[name]} if name in self.texts else {})
                for name, line in self.lines.items()
            ],
            "total": _line_json(self.total),
            "prices": [row.as_json() for row in self.prices.rows],
        }


def _line_json(line: Line) -> dict[str, Any]:
    unknown = ("failed", "unsettled", "seconds")
    requested = {name: value for name, value in vars(line.requested).items() if name not in unknown}
    return {"asked": requested, "paid": vars(line.paid)}


async def read_ledger(store: Store, run: str, prices: PriceTable, by: By) -> Ledger:
    """Read the run's ledger, at the present prices."""
    pulls = {
        row["round"]: Instruction.model_validate_json(row["instruction"])
        for row in await store.rows("pulls", run=run)
    }

    def name(role: str, round: int) -> str:
        if by == "role":
            return role
        if round not in pulls:
            return PILOT
        return str(round) if by == "round" else pulls[round].id

    lines: dict[str, Line] = defaultdict(Line)
    await _add_requested(store, run, prices, lambda role, round: lines[name(role, round)].requested)
    await _add_paid(store, run, prices, lambda role, round: lines[name(role, round)].paid)
    order = _in_order(lines, [pulls[round].id for round in sorted(pulls)])
    texts = {pull.id: pull.text for pull in pulls.values()} if by == "instruction" else {}
    return Ledger(by, {key: lines[key] for key in order}, texts, prices)


def _in_order(lines: dict[str, Line], pulled: list[str]) -> list[str]:
    """Names of the lines: the pilot first, rounds and instructions by pull, actors by name."""
    first_pull = {key: index for index, key in reversed(list(enumerate(pulled)))}

    def place(key: str) -> tuple[bool, int, str]:
        index = int(key) if key.isdigit() else first_pull.get(key, 0)
        return (key != PILOT, index, key)

    return sorted(lines, key=place)


Find = Callable[[str, int], Spent]
"""Returns the sum that an actor's calls of a round belong to."""


def usage_of(row: sqlite3.Row) -> LlmUsage:
    """The usage in a row of the database."""
    return LlmUsage.model_validate({name: row[name] for name in LlmUsage.model_fields})


def _of_llm(prices: PriceTable, role: str, used: LlmUsage) -> Spent:
    """The calls of a role, with their cost."""
    price = prices.llm(role)
    return Spent(
        llm_calls=used.calls,
        tokens=used.tokens,
        reasoning_tokens=used.reasoning_tokens,
        cached_tokens=used.cached_tokens,
        usd=price.usd(used) if price else 0.0,
        unpriced=0 if price else used.calls,
    )


def _cost(count: int, price: float | None) -> Spent:
    """The cost of `count` images or scores."""
    return Spent(unpriced=count) if price is None else Spent(usd=count * price)


async def _add_requested(store: Store, run: str, prices: PriceTable, find: Find) -> None:
    for row in await store.rows("asked_of_llms", run=run):
        find(row["role"], row["round"]).add(_of_llm(prices, row["role"], usage_of(row)))
    for row in await store.rows("asked_pictures", run=run, type="RenderRequested"):
        spent, count = find("renderer", row["round"]), row["pictures"]
        spent.add(Spent(renders=count))
        spent.add(_cost(count, prices.each("render")))
    for row in await store.rows("asked_pictures", run=run, type="ScoreRequested"):
        spent, count = find("scorer", row["round"]), row["pictures"]
        spent.add(Spent(scores=count))
        spent.add(_cost(count, prices.each("score")))


async def _add_paid(store: Store, run: str, prices: PriceTable, find: Find) -> None:
    for row in await store.rows("payments", run=run):
        calls, spent = row["calls"], find(row["actor"], row["round"])
        answered = calls if row["outcome"] == "answered" else 0
        spent.add(
            Spent(
                failed=calls if row["outcome"] == "failed" else 0,
                unsettled=calls if row["outcome"] == "open" else 0,
                seconds=row["ms"] / 1000,
            )
        )
        match row["kind"]:
            case "llm":
                spent.add(_of_llm(prices, row["actor"], usage_of(row)))
            case "render":
                spent.add(Spent(renders=calls))
                spent.add(_cost(answered, prices.each("render")))
            case _:
                spent.add(Spent(scores=calls))
                spent.add(_cost(answered, prices.each("score")))
