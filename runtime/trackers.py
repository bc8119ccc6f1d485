"""A run in an experiment tracker: MLflow, or Weights & Biases offline.

Exporting again adds what is new and repeats nothing: a run has one id there, rounds are steps, and
times are those of the run. Neither library is needed for anything else; `bigpe[mlflow]`,
`bigpe[wandb]`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bigpe.runtime.facts import ArmFacts, RunFacts
from bigpe.runtime.history import config_of
from bigpe.runtime.run_reader import RunReader
from bigpe.services.errors import ConfigError, ServiceError
from bigpe.services.store import Store
from bigpe.services.values import digest, flat_settings

EXPERIMENT = "bigpe"
LONGEST_VALUE = 500
"""Characters of a parameter."""
A_BATCH = 500
"""Metrics that MLflow is sent in one go."""


class Step(NamedTuple):
    """A settled round."""

    round: int
    ts: float
    """Unix time, seconds."""
    metrics: dict[str, float]


class Tracked(NamedTuple):
    """What a tracker is told of a run."""

    id: str
    """16 hex characters; the same whenever the run is exported."""
    run: str
    started_at: float
    ended: bool
    params: dict[str, str]
    tags: dict[str, str]
    steps: Sequence[Step]
    files: Mapping[str, str]
    """Texts by file name."""


async def tracked(store: Store, run: str) -> Tracked:
    """The run as it stands. ConfigError before it began."""
    reader = RunReader(store, run)
    await reader.catch_up()
    facts = reader.facts
    config = await config_of(store, run)
    if facts.start is None or config is None:
        raise ConfigError(f"run {run!r} has not begun; `bigpe run {run}` starts it")
    files = {"instructions.json": _json([_arm(arm) for arm in facts.arms.values()])}
    if facts.best:
        files["best_instruction.json"] = _json(_arm(facts.arms[facts.best]))
    report = await store.one("evaluation_report", run=run)
    if report is not None:
        files["evaluation.json"] = report["body"]
    settings = flat_settings(config.model_dump(mode="json"))
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


def _tags(facts: RunFacts) -> dict[str, str]:
    tags = {"bigpe.best": facts.best}
    if facts.best:
        tags["bigpe.best_text"] = facts.arms[facts.best].instruction.text[:LONGEST_VALUE]
    if facts.stopped is not None:
        tags["bigpe.stopped"] = facts.stopped.reason
    return tags


def _steps(facts: RunFacts) -> list[Step]:
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


def _arm(arm: ArmFacts) -> dict[str, Any]:
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


# -- MLflow ---------------------------------------------------------------------------------------


def to_mlflow(run: Tracked, folder: Path | None) -> str:
    """To a folder, or where MLFLOW_TRACKING_URI says; returns where it is.

    ConfigError without MLflow, ServiceError when it fails.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if folder is not None:
        # Its file store is all that a folder needs; MLflow itself would rather have a database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ConfigError("exporting to MLflow needs it: pip install 'bigpe[mlflow]'") from error
    uri = folder.resolve().as_uri() if folder is not None else None
    try:
        client = MlflowClient(tracking_uri=uri)
        return f"{client.tracking_uri} run {_fill(client, run)}"
    except (MlflowException, OSError) as error:
        raise ServiceError(f"MLflow at {uri or 'MLFLOW_TRACKING_URI'}: {error}") from error


def _fill(client: Any, run: Tracked) -> str:
    from mlflow.entities import Metric, Param, RunTag

    id = _mlflow_run(client, run)
    known: dict[str, str] = client.get_run(id).data.params
    new = [Param(key, value) for key, value in run.params.items() if key not in known]
    # MLflow's parameters never change; `bigpe resume --set` changes some of ours.
    changed = {
        f"bigpe.now.{key}": value
        for key, value in run.params.items()
        if known.get(key, value) != value
    }
    tags = [RunTag(key, value) for key, value in (run.tags | changed).items()]
    client.log_batch(id, params=new, tags=tags)
    names = {name for step in run.steps for name in step.metrics}
    last = {name: _last_step(client, id, name) for name in names}
    metrics = [
        Metric(name, value, int(1000 * step.ts), step.round)
        for step in run.steps
        for name, value in step.metrics.items()
        if step.round > last[name]
    ]
    for start in range(0, len(metrics), A_BATCH):
        client.log_batch(id, metrics=metrics[start : start + A_BATCH])
    for name, text in run.files.items():
        client.log_text(id, text, name)
    if run.ended and run.steps:
        client.set_terminated(id, "FINISHED", end_time=int(1000 * run.steps[-1].ts))
    return id


def _mlflow_run(client: Any, run: Tracked) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    place = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    found = client.search_runs([place], f"tags.`bigpe.id` = '{run.id}'")
    if found:
        return str(found[0].info.run_id)
    start = int(1000 * run.started_at)
    tags = {"bigpe.id": run.id}
    made = client.create_run(place, start_time=start, tags=tags, run_name=run.run)
    return str(made.info.run_id)


def _last_step(client: Any, id: str, name: str) -> int:
    return max((metric.step for metric in client.get_metric_history(id, name)), default=-1)


# -- Weights & Biases -----------------------------------------------------------------------------


def to_wandb(run: Tracked, folder: Path) -> str:
    """Offline, into a folder that `wandb sync` uploads; an earlier export is replaced there.

    ConfigError without wandb, ServiceError when it fails.
    """
    for name, value in (("WANDB_DISABLE_WEAVE", "true"), ("WANDB_ERROR_REPORTING", "false")):
        os.environ.setdefault(name, value)  # no advertisement, and no word to anybody
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("exporting to W&B needs it: pip install 'bigpe[wandb]'") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in (folder / "wandb").glob(f"offline-run-*-{run.id}"):
            shutil.rmtree(earlier)
        settings = wandb.Settings(
            mode="offline",
            root_dir=str(folder),
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        with wandb.init(
            project=EXPERIMENT, id=run.id, name=run.run, config=dict(run.params), settings=settings
        ) as logged:
            return _log(logged, run)
    except (wandb.Error, OSError) as error:
        raise ServiceError(f"W&B in {folder}: {error}") from error
    finally:
        wandb.teardown()  # its service would mistake a later export for this one


def _log(logged: Any, run: Tracked) -> str:
    logged.define_metric("*", step_metric="round")
    for step in run.steps:
        logged.log({"round": step.round, "ts": step.ts, **step.metrics})
    logged.summary.update(run.tags)
    files = Path(logged.dir)
    for name, text in run.files.items():
        (files / name).write_text(text, "utf-8")
        logged.save(str(files / name), base_path=str(files), policy="now")
    return str(files.parent)
