"""Paths of a project's files."""

from __future__ import annotations

import re
from pathlib import Path

from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Project:
    """A project folder: `bigpe.toml`, `bigpe.db`, `images/` and `runs/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def config(self) -> Path:
        """The configuration that new runs start with."""
        return self.folder / "bigpe.toml"

    @property
    def database(self) -> Path:
        """All runs, transcripts and paid calls."""
        return self.folder / "bigpe.db"

    @property
    def images(self) -> Path:
        """The images, named by the digest of their files."""
        return self.folder / "images"

    def exists(self) -> bool:
        """Whether the folder is a project: it has a configuration or a database."""
        return self.config.exists() or self.database.exists()

    def lock(self, run: str) -> Path:
        """The lock file of the run."""
        return self.folder / "runs" / f"{run}.lock"

    def log(self, run: str) -> Path:
        """The run's log, one JSON object per line."""
        return self.folder / "runs" / f"{run}.log.jsonl"

    def worker_log(self, run: str, worker: str) -> Path:
        """The standard error of a worker process of the run."""
        return self.folder / "runs" / f"{run}.{worker}.log"

    def sheet(self, run: str) -> Path:
        """The contact sheet."""
        return self.folder / "runs" / f"{run}.png"

    def check_run_name(self, run: str) -> None:
        """ConfigError if a run cannot have this name."""
        if not RUN_NAME.fullmatch(run):
            raise ConfigError(
                f"{run!r} cannot name a run: use up to 64 letters, digits, '-' and '_', "
                "a letter or digit first"
            )


async def no_such_run(store: Store, name: str) -> ConfigError:
    """The error for a missing run, with the names of all runs."""
    names = [row["name"] for row in await store.rows("list_runs")]
    others = f"there are: {', '.join(names)}" if names else "there are no runs yet"
    return ConfigError(f"no run {name!r} in this project; {others}")
