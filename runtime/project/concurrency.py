"""How many rounds a run keeps in flight: `[run] concurrency`, as a number and its reason.

A function of configuration and style. A run stores the number when it starts (`CampaignPlan`), so
a resumed run keeps it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bigpe.agents.messages.plan import EVIDENCE_WORDED
from bigpe.runtime.project.config import AUTO, MOST_IN_FLIGHT, BigpeConfig

LEAST = 2
"""Rounds in flight at least, as language model and pictures then overlap."""
THOUGHT = 4.0
"""Time of a gradient or a proposal over that of a rewrite. Assumed: 20 s and 5 s, as models that
think take; the number changes little, since it counts in the work and in the length of a round."""
RESERVE = 1.25
"""Factor of the rounds that keep a model busy on average, as its requests come in bursts."""
LEARNING_STEPS = 8
"""Rounds over rounds in flight, at least. By simulation (docs/scaling.md) 8 cost up to 0.6 of a
gain of 14, and 4 cost 1 to 4. In the evidence-worded style 8 cost 3 of 13, 24 nothing."""


class RoundsInFlight(NamedTuple):
    """A number of rounds, and why it was chosen."""

    rounds: int
    reason: str

    def __str__(self) -> str:
        return f"{self.rounds} rounds in flight ({self.reason})"


def rounds_in_flight(config: BigpeConfig, style: str, proposals: int) -> RoundsInFlight:
    """The rounds that a run in this style keeps in flight, 1 to `MOST_IN_FLIGHT`.

    "auto" takes as many as keep the requests that the language models allow at a time busy, and no
    more than leave the run `LEARNING_STEPS` steps. The evidence-worded style gets `LEAST`.
    `proposals`: per gradient.
    """
    if config.run.concurrency != AUTO:
        return RoundsInFlight(config.run.concurrency, "as set")
    if style == EVIDENCE_WORDED:
        return RoundsInFlight(LEAST, f"auto: the style {style!r} learns from each round")
    busy, rounds = min(_busy(config, proposals), MOST_IN_FLIGHT), _rounds(config)
    count = max(LEAST, min(busy, rounds // LEARNING_STEPS))
    if count >= busy:
        return RoundsInFlight(count, "auto: more would wait for the language model")
    reason = f"auto: more of {rounds} rounds would learn too late; the fastest would be {busy}"
    return RoundsInFlight(count, reason)


def _busy(config: BigpeConfig, proposals: int) -> int:
    """Rounds in flight that keep the first language model busy that can be.

    Little's law: requests in flight are rounds in flight, times the time that requests of a round
    take together, over the length of a round.
    """
    run = config.run
    batch = run.batch_size * run.seeds_per_prompt
    rewriting = math.ceil(batch / config.llm_for("generator").concurrency)
    length = rewriting + 2 * THOUGHT
    work: dict[str, float] = {}
    places: dict[str, int] = {}
    times = {
        "generator": float(batch),
        "gradient": THOUGHT,
        "modifier": run.improvements * proposals * THOUGHT,
    }
    for role, time in times.items():
        model = config.llm_for(role)
        key = model.model_dump_json()
        work[key] = work.get(key, 0.0) + time
        places[key] = model.concurrency
    return math.ceil(RESERVE * min(places[key] * length / work[key] for key in work))


def _rounds(config: BigpeConfig) -> int:
    """The rounds that `[run] rounds` and `[budget]` allow, at most.

    A round asks for a picture, a score and a call of the language model for each rewrite.
    """
    batch, limits = config.run.batch_size * config.run.seeds_per_prompt, config.budget
    bounds = (limits.renders, limits.scores, limits.llm_calls)
    return min([config.run.rounds, *(bound // batch for bound in bounds if bound)])
