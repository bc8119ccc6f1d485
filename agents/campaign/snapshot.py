"""Snapshots of the coordinator's state, so that a resumed run need not replay its whole history.

The state consists of dataclasses, which pydantic converts to JSON and back. This module has the
JSON form of dicts with tuple keys, and the version of the code that wrote a snapshot.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, PlainSerializer

FOLD_MODULES = (
    "bigpe.agents.bandit.arm",
    "bigpe.agents.bandit.arm_view",
    "bigpe.agents.bandit.lineage",
    "bigpe.agents.campaign.answers",
    "bigpe.agents.campaign.budget",
    "bigpe.agents.messages.answer_counts",
    "bigpe.agents.diagnostics.alarm",
    "bigpe.agents.campaign.campaign",
    "bigpe.agents.bandit.operator_search",
    "bigpe.agents.bandit.operators",
    "bigpe.agents.evidence.contrasts",
    "bigpe.agents.messages.search",
    "bigpe.agents.messages.plan",
    "bigpe.agents.campaign.state",
    "bigpe.agents.evidence.comparison_window",
    "bigpe.agents.campaign.prompt_schedule",
    "bigpe.agents.evidence.mixed_model",
    "bigpe.agents.messages.failure_scope",
    "bigpe.agents.statistics.intervals",
    "bigpe.agents.messages.answer_fault",
    "bigpe.agents.messages.base",
    "bigpe.agents.messages.core",
    "bigpe.agents.messages.parts",
    "bigpe.agents.statistics.moments",
    "bigpe.agents.campaign.stopping",
    "bigpe.agents.campaign.pilot",
    "bigpe.agents.campaign.plugin_state",
    "bigpe.agents.bandit.policies",
    "bigpe.agents.bandit.pool",
    "bigpe.agents.messages.plugin",
    "bigpe.agents.campaign.round",
    "bigpe.agents.statistics.significance",
    "bigpe.agents.campaign.snapshot",
    "bigpe.agents.evidence.terms",
    "bigpe.agents.messages.usage",
    "bigpe.services.core.values",
)
"""The modules that the campaign imports, directly or indirectly. A test compares this list with
the imports."""
K = TypeVar("K")
V = TypeVar("V")


def _as_rows(table: dict[Any, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in table.items()]


def _as_table(stored: Any) -> Any:
    if not isinstance(stored, list):
        return stored
    rows = cast("list[tuple[list[Any], Any]]", stored)
    return {tuple(key): value for key, value in rows}


ByTuple = Annotated[dict[K, V], PlainSerializer(_as_rows), BeforeValidator(_as_table)]
"""A dict whose keys are tuples. Its JSON form is a list of [key, value]."""


def source_of(module: str) -> bytes:
    """The source of a module, by its full name. Raises ModuleNotFoundError."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{module}, a part of the campaign, is not installed", name=module
        )
    return Path(spec.origin).read_bytes()


@cache
def fold_version() -> str:
    """A digest of the source of `FOLD_MODULES`.

    Any change of the source invalidates older snapshots; a resume then replays the transcript.
    """
    version = hashlib.sha256()
    for module in FOLD_MODULES:
        version.update(module.encode() + b"\0" + source_of(module) + b"\0")
    return version.hexdigest()
