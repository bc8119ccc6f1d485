"""Exports a run to Weights & Biases, offline (`bigpe[wandb]`)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from bigpe.runtime.sharing.trackers import EXPERIMENT, Tracked
from bigpe.services.core.errors import ConfigError, ServiceError


def to_wandb(run: Tracked, folder: Path) -> str:
    """Write the run offline, into a folder that `wandb sync` uploads; returns the folder.

    Replaces an earlier export. ConfigError if wandb is not installed, ServiceError if it fails.
    """
    for name, value in (("WANDB_DISABLE_WEAVE", "true"), ("WANDB_ERROR_REPORTING", "false")):
        os.environ.setdefault(name, value)  # print no advertisement, send no reports
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
        wandb.teardown()  # else its service continues this run in a later export


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
