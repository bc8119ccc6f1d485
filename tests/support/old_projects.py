"""Projects as released versions of bigpe left them, one for each schema, kept in tests/golden.

    python -P -m support.old_projects make

writes the one of the schema that this checkout has: a finished run `done`, and a run `half` that
was killed, its write-ahead log still beside the database. Run it once before a release; a file that
is there is never written again.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from bigpe.services import migrations
from bigpe.testing.runs import open_fake, run_fake
from support.paths import GOLDEN

DONE: dict[str, Any] = {
    "run": {"rounds": 3, "batch_size": 2, "concurrency": 2, "pilot_prompts": 2, "seed": 5}
}
HALF: dict[str, Any] = {"run": {**DONE["run"], "rounds": 4, "seed": 6}}
HALF_ENDS_AT = 55
"""Messages of the run `half` after which it is killed."""


def known() -> list[int]:
    """The schemas that there is a project of."""
    names = (path.name for path in GOLDEN.glob("project_schema_*.tar.gz"))
    return sorted(int(re.sub(r"\D", "", name)) for name in names)


def archive(schema: int) -> Path:
    return GOLDEN / f"project_schema_{schema}.tar.gz"


def unpack(schema: int, folder: Path) -> Path:
    """The project of that schema, in `folder`."""
    with tarfile.open(archive(schema)) as tar:
        tar.extractall(folder, filter="data")
    return folder


async def _half(folder: Path) -> None:
    count = 0
    async with open_fake(folder, HALF, delay_s=0.01, name="half") as session:
        async for _ in session.run():
            count += 1
            if count == HALF_ENDS_AT:
                os.kill(os.getpid(), 9)


def make() -> Path:
    """Write this schema's project; FileExistsError when it is there already."""
    target = archive(migrations.VERSION)
    if target.exists():
        raise FileExistsError(target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(run_fake(folder, DONE, name="done"))
        command = [sys.executable, "-P", "-m", "support.old_projects", "half", name]
        assert subprocess.run(command, check=False).returncode == -9
        for log in folder.glob("calls*.jsonl"):
            log.unlink()
        with tarfile.open(target, "w:gz") as tar:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix not in (".lock", ".jsonl", ".db-shm"):
                    tar.add(path, str(path.relative_to(folder)))
    return target


def runs_of(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    try:
        return [row[0] for row in connection.execute("SELECT name FROM run ORDER BY name")]
    finally:
        connection.close()


if __name__ == "__main__":
    if sys.argv[1] == "half":
        asyncio.run(_half(Path(sys.argv[2])))
        time.sleep(60)
    print(make())
