"""Converts a run for experiment trackers: parameters, tags, files, and one step per round.

The run has the same id in each export, so a second export adds only new steps. See
`mlflow_tracker` and `wandb_tracker`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.transcript.reader import read_summary
from bigpe.runtime.transcript.summary import ArmSummary, RunSummary
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import digest, flat_settings
from bigpe.services.store.database import Store

EXPERIMENT = "bigpe"
LONGEST_VALUE = 500
"""Most characters of a parameter."""


class Step(NamedTuple):
    """A finished round."""

    round: int
    ts: float
    """Unix time, seconds."""
    metrics: dict[str, float]


class Tracked(NamedTuple):
    """A run as a tracker stores it."""

    id: str
    """16 hex characters; the same in every export of the run."""
    run: str
    started_at: float
    ended: bool
    params: dict[str, str]
    tags: dict[str, str]
    steps: Sequence[Step]
    files: Mapping[str, str]
    """Texts by file name."""


async def tracked(store: Store, run: str) -> Tracked:
    """Read the present state of the run. ConfigError if it has not begun."""
    facts = await read_summary(store, run)
    config = (await require_stored_run(store, run)).config
    if facts.start is None:
        raise ConfigError(f"run {run!r} has not begun; `bigpe run {run}` starts it")
    files = {"instructions.json": _json([_arm(arm) for arm in facts.arms.values()])}
    if facts.best:
        files["best_instruction.json"] = _json(_arm(facts.arms[facts.best]))
    report = await store.row("evaluation_report", run=run)
    if report is not None:
        files["evaluation.json"] = report["body"]
    plan = facts.start.plan
    # What "auto" stands for is in the plan.
    chosen = {"policy.name": plan.policy["name"], "run.concurrency": plan.concurrency}
    settings = flat_settings(config.model_dump(mode="json")) | chosen
    return Tracked(
        id=digest([facts.start.mid, facts.started_at])[:16],
        run=run,
        started_at=facts.started_at,
        ended=facts.stopped is not None,
        params={key: str(value)[:LONGEST_VALUE] for key, value in settings.items() if value != {}},
        tags=_tags(facts),
        steps=_steps(facts),
        files=files,
    )


def _tags(facts: RunSummary) -> dict[str, str]:
    tags = {"bigpe.best": facts.best}
    if facts.best:
        tags["bigpe.best_text"] = facts.arms[facts.best].instruction.text[:LONGEST_VALUE]
    if facts.stopped is not None:
        tags["bigpe.stopped"] = facts.stopped.reason
    return tags


def _steps(facts: RunSummary) -> list[Step]:
    best = {point.round: point.gain for point in facts.curve}
    steps: list[Step] = []
    for settled, ts in zip(facts.rounds, facts.settled_at, strict=True):
        metrics = {
            "comparisons": float(settled.gains),
            "fallbacks": float(settled.fallbacks),
            "missing": float(settled.missing),
        }
        if settled.mean is not None:
            metrics["round_gain"] = settled.mean
        if gain := best.get(settled.round):
            bounds = {"best_gain": gain.mean, "best_gain_lo": gain.lo, "best_gain_hi": gain.hi}
            metrics |= {name: bound for name, bound in bounds.items() if bound is not None}
        steps.append(Step(settled.round, ts, metrics))
    return steps


def _arm(arm: ArmSummary) -> dict[str, Any]:
    return {
        "id": arm.instruction.id,
        **arm.instruction.model_dump(mode="json"),
        "name": arm.name,
        "state": arm.state,
        "parent": arm.parent,
        "born_round": arm.born_round,
        "improvement": arm.improvement,
        "pulls": arm.finished_pulls,
        "gains": arm.count,
        "mean_gain": arm.gains.mean if arm.count else None,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
