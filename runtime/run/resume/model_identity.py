"""Identity of a run's models and style: stored at its start, compared when it is resumed.

A configuration does not show a change of a model's files, of torch, of the device or of the server
behind an address. So the run stores the fingerprints of its models and their inputs. For a
reasoning style of another package it stores the package's version.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from bigpe.agents.reasoning.styles import style_package
from bigpe.runtime.run.services import Services
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Value
from bigpe.services.models.fingerprints import Composed, differences
from bigpe.services.store.database import Statement

KINDS = ("renderer", "scorer")
STYLE = "reasoning style"
MADE = {"renderer": "Pictures", "scorer": "Scores", STYLE: "Texts"}


class ModelRecord(Value):
    """The identity of a renderer, a scorer or a style."""

    fingerprint: str
    fingerprint_inputs: dict[str, Any] = {}
    """The inputs of the fingerprint's digest; empty if only the fingerprint is stored."""


Records = dict[str, ModelRecord]
_RECORDS = TypeAdapter(Records)


async def records_now(services: Services) -> Records:
    """Load renderer and scorer in parallel and read all identities. ConfigError on failure."""
    prints = await services.open_models()
    backends = (services.render.backend, services.score.backend)
    found = {
        kind: ModelRecord(
            fingerprint=fingerprint,
            fingerprint_inputs=backend.fingerprint_inputs if isinstance(backend, Composed) else {},
        )
        for kind, fingerprint, backend in zip(KINDS, prints, backends, strict=True)
    }
    if package := style_package(services.style.name):
        inputs = {"style": services.style.name, "package": package}
        found[STYLE] = ModelRecord(fingerprint=package, fingerprint_inputs=inputs)
    return found


def record_statement(run: str, records: Records) -> Statement:
    """The statement that stores the records with the run."""
    return ("set_run_models", {"name": run, "models": _RECORDS.dump_json(records).decode()})


def parse_records(stored: str) -> Records:
    """The records that are stored with a run."""
    return _RECORDS.validate_json(stored)


def require_same_models(run: str, before: Records, now: Records) -> None:
    """ConfigError with the difference and the remedy, if a record differs from the run's own."""
    for kind in before:
        if before[kind].fingerprint != now[kind].fingerprint:
            raise ConfigError(_difference(run, kind, before[kind], now[kind]))


def _difference(run: str, kind: str, before: ModelRecord, now: ModelRecord) -> str:
    changed = differences(
        before.fingerprint, before.fingerprint_inputs, now.fingerprint, now.fingerprint_inputs
    )
    return (
        f"run {run!r} has begun with another {kind} than the present one:\n"
        f"{changed}\n"
        f"{MADE[kind]} of the two could not be compared. Restore what was changed, then run "
        f"`bigpe resume {run}`; or start a fork, which pays again only for what depends on it:\n"
        f"  bigpe fork {run} NEW-NAME"
    )
