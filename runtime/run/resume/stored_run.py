"""A run as the project's database holds it: read once when the run is opened, then handed on."""

from __future__ import annotations

from dataclasses import dataclass

from bigpe.agents.messages.plan import CampaignPlan
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.paths import Project, no_such_run
from bigpe.runtime.run.resume.model_identity import ModelRecord, Records, records_of
from bigpe.runtime.transcript.replay import plan_of, scorer_of
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store


@dataclass(frozen=True)
class StoredRun:
    """What a run is stored with, except its messages."""

    name: str
    config: BigpeConfig
    plan: CampaignPlan | None
    """The plan of its first message; None when a process died before that was stored."""
    models: Records
    """Renderer and scorer that the run began with."""
    seconds: float
    """Working time of all processes that wrote the run."""

    @property
    def scorer(self) -> str | None:
        """The fingerprint of the scorer of its scores; None before it is recorded."""
        return self.models["scorer"].fingerprint if "scorer" in self.models else None


async def find_stored_run(store: Store, name: str) -> StoredRun | None:
    """Read the run; None when there is no run of that name."""
    row = await store.row("get_run", name=name)
    if row is None:
        return None
    models = await records_of(store, name)
    if "scorer" not in models and (fingerprint := await scorer_of(store, name)):
        models["scorer"] = ModelRecord(fingerprint=fingerprint)
    config = BigpeConfig.model_validate_json(row["config"])
    return StoredRun(name, config, await plan_of(store, name), models, row["seconds"])


async def require_stored_run(store: Store, name: str) -> StoredRun:
    """Read the run. ConfigError, with the runs that there are, when there is none of that name."""
    stored = await find_stored_run(store, name)
    if stored is None:
        raise await no_such_run(store, name)
    return stored


async def load_stored_run(project: Project, name: str) -> StoredRun:
    """Read the run from the project's database. ConfigError when there is no such run."""
    if project.database.exists():
        async with Store(project.database, read_only=True) as store:
            stored = await find_stored_run(store, name)
        if stored is not None:
            return stored
    raise ConfigError(f"there is no run {name!r} here; start it with `bigpe run {name}`")
