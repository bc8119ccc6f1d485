"""Builders of values that many tests need, with defaults for what a test does not look at."""

from __future__ import annotations

from typing import Any

from bigpe.agents.evidence.mixed_model import EvidenceRow
from bigpe.runtime.experiments.cells import ExperimentCell
from bigpe.runtime.experiments.report.tables import BEST


def evidence_row(term: str, effect: float, id: str = "E1", **fields: Any) -> EvidenceRow:
    """A row about a term whose effect is certain."""
    values: dict[str, Any] = {
        "id": id,
        "kind": "term",
        "term": term,
        "effect": effect,
        "lo": effect - 0.001,
        "hi": effect + 0.001,
        "n": 12,
        "arms": 3,
        "confounded": False,
    }
    return EvidenceRow(**(values | fields))


def experiment_cell(
    arm: str = "a", seed: int = 0, gain: float = 0.1, *, budget: int = 200, **fields: Any
) -> ExperimentCell:
    """A finished cell of the grid "policies", with one gain for both of its prompts."""
    values: dict[str, Any] = {
        "experiment": "policies",
        "arm": arm,
        "config": f"config of {arm}",
        "seed": seed,
        "run": "r",
        "budget": budget,
        "reason": "done",
        "rounds": 5,
        "renders": budget,
        "scores": budget,
        "llm_calls": 100,
        "tokens": 1000,
        "seconds": 60.0,
        "instruction": "Add details.",
        "gains": {BEST: {"a cat": gain, "a dog": gain}},
    }
    return ExperimentCell(**(values | fields))
