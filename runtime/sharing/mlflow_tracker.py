"""Exports a run to MLflow (`bigpe[mlflow]`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bigpe.runtime.sharing.trackers import EXPERIMENT, Tracked
from bigpe.services.core.errors import ConfigError, ServiceError

METRICS_PER_CALL = 500
"""Metrics in one request to MLflow."""


def to_mlflow(run: Tracked, folder: Path | None) -> str:
    """Write the run to a folder, or to MLFLOW_TRACKING_URI; returns its address.

    ConfigError if MLflow is not installed, ServiceError if it fails.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if folder is not None:
        # A folder needs the file store, which MLflow permits only with this variable.
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
    stored: dict[str, str] = client.get_run(id).data.params
    new = [Param(key, value) for key, value in run.params.items() if key not in stored]
    # MLflow's parameters cannot change, but `bigpe resume --set` changes some settings.
    changed = {
        f"bigpe.now.{key}": value
        for key, value in run.params.items()
        if stored.get(key, value) != value
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
    for start in range(0, len(metrics), METRICS_PER_CALL):
        client.log_batch(id, metrics=metrics[start : start + METRICS_PER_CALL])
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
