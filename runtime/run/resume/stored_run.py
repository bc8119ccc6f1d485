"""A run as stored in the project's database, without its messages."""

from __future__ import annotations

from dataclasses import dataclass

from bigpe.agents.messages.plan import CampaignPlan
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project, no_such_run
from bigpe.runtime.run.resume.model_identity import Records, parse_records
from bigpe.runtime.transcript.replay import plan_of
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store


@dataclass(frozen=True)
class StoredRun:
    """The stored record of a run. It is read once, when the run is opened."""

    name: str
    config: BigpeConfig
    plan: CampaignPlan | None
    """The plan of its first message; None if a process died before storing that message."""
    models: Records
    """Identity of the renderer and scorer at the run's start."""
    seconds: float
    """Working time of all processes that wrote the run."""


async def find_stored_run(store: Store, name: str) -> StoredRun | None:
    """Read the run; None if there is no run of that name."""
    row = await store.row("get_run", name=name)
    if row is None:
        return None
    config, models = BigpeConfig.model_validate_json(row["config"]), parse_records(row["models"])
    return StoredRun(name, config, await plan_of(store, name), models, row["seconds"])


async def require_stored_run(store: Store, name: str) -> StoredRun:
    """Read the run. ConfigError, with the names of all runs, if there is no such run."""
    stored = await find_stored_run(store, name)
    if stored is None:
        raise await no_such_run(store, name)
    return stored


async def load_stored_run(project: Project, name: str) -> StoredRun:
    """Read the run from the project's database. ConfigError if there is no such run."""
    if project.database.exists():
        async with Store(project.database, read_only=True) as store:
            stored = await find_stored_run(store, name)
        if stored is not None:
            return stored
    raise ConfigError(f"there is no run {name!r} here; start it with `bigpe run {name}`")
