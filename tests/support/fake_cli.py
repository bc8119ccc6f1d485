"""The `bigpe` command on the fakes, in a process of its own.

The environment says how: BIGPE_FAKE_DELAY_S, seconds that a model works; BIGPE_FAKE_HANGS, a file
that is made once the renderer is being opened, which then never ends; BIGPE_FAKE_FAILS, whether the
renderer fails at every picture; BIGPE_FAKE_PAGES, to how many pages the database may grow before
SQLite says that the disk is full; BIGPE_FAKE_HTTP_LLM, whether the language model is that of the
configuration.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from bigpe.runtime.cli import main
from bigpe.runtime.evaluation.open_run import EvaluatedRun, open_run_for_evaluation
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.errors import RenderError
from bigpe.services.core.values import Image, RenderRequest
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeLlm, FakeRenderer, FakeScorer
from bigpe.testing.runs import NO_WAIT, run_fake
from support.forked import ForkedProcess
from support.paths import import_path

CONFIG = """
[run]
rounds = 8
batch_size = 3
concurrency = 2
pilot_prompts = 3
seed = 11

[prices]
render = 0.01
"""


def start(
    folder: Path,
    *words: str,
    delay_s: float = 0.0,
    hangs: Path | None = None,
    fails: bool = False,
    pages: int = 0,
    largest_file: int = 0,
    http_llm: bool = False,
    stderr: int = subprocess.PIPE,
) -> ForkedProcess:
    """Start `bigpe WORDS -p FOLDER`; a folder without a configuration gets CONFIG.

    `largest_file`: bytes, after which the system refuses to write more to a file; 0: any.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / "bigpe.toml").exists():
        (folder / "bigpe.toml").write_text(CONFIG)
    environment = {
        **os.environ,
        "PYTHONPATH": import_path(),
        "BIGPE_FAKE_DELAY_S": str(delay_s),
        "BIGPE_FAKE_HANGS": str(hangs or ""),
        "BIGPE_FAKE_FAILS": "yes" if fails else "",
        "BIGPE_FAKE_PAGES": str(pages or ""),
        "BIGPE_FAKE_HTTP_LLM": "yes" if http_llm else "",
    }
    return ForkedProcess(
        main_on_fakes, *words, "-p", str(folder),
        environment=environment, stderr=stderr, largest_file=largest_file,
    )  # fmt: skip


def start_run(
    folder: Path, config: dict[str, Any], delay_s: float, *, packages: Path | None = None
) -> ForkedProcess:
    """Start or resume a run on the fakes. `packages`: a folder of installed packages."""
    found = [packages] if packages else []
    return ForkedProcess(
        _run_by_words, str(folder), json.dumps(config), str(delay_s), *map(str, found),
        environment={**os.environ, "PYTHONPATH": import_path(*found)},
    )  # fmt: skip


def _run_by_words() -> None:
    _, folder, config, delay_s, *found = sys.argv
    sys.path[:0] = found
    asyncio.run(run_fake(Path(folder), json.loads(config), delay_s=float(delay_s)))


class _HangingRenderer(FakeRenderer):
    def __init__(self, blobs: BlobStore, opening: Path) -> None:
        super().__init__(blobs)
        self._opening = opening

    async def open(self) -> str:
        self._opening.touch()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody ends the wait")


class _FailingRenderer(FakeRenderer):
    async def render(self, requests: Sequence[RenderRequest]) -> list[Image | Exception]:
        return [RenderError("no paint") for _ in requests]


def _renderer(blobs: BlobStore, log: Path, delay_s: float) -> FakeRenderer:
    if opening := os.environ["BIGPE_FAKE_HANGS"]:
        return _HangingRenderer(blobs, Path(opening))
    kind = _FailingRenderer if os.environ["BIGPE_FAKE_FAILS"] else FakeRenderer
    return kind(blobs, delay_s=delay_s, log=log)


_open = Session.open


def _open_on_fakes(
    name: str, config: Any = None, *, project: Path, **options: Any
) -> AbstractAsyncContextManager[Session]:
    blobs, log, delay_s = _place(project)
    return _open(
        name,
        config,
        project=project,
        llms=_llms(delay_s, log),
        renderer=_renderer(blobs, log, delay_s),
        scorer=FakeScorer(blobs),
        retry=NO_WAIT,
        **options,
    )


def _open_run_for_evaluation_on_fakes(
    name: str, *, project: Path, fresh: bool = False
) -> AbstractAsyncContextManager[EvaluatedRun]:
    blobs, log, delay_s = _place(project)
    return open_run_for_evaluation(
        name,
        project=project,
        fresh=fresh,
        llms=_llms(delay_s, log),
        renderer=FakeRenderer(blobs, delay_s=delay_s, log=log),
        scorer=FakeScorer(blobs),
    )


def _llms(delay_s: float, log: Path) -> dict[str, FakeLlm] | None:
    http = os.environ["BIGPE_FAKE_HTTP_LLM"]
    return None if http else {"default": FakeLlm(delay_s=delay_s, log=log)}


def _place(project: Path) -> tuple[BlobStore, Path, float]:
    """Where pictures go, where calls are noted, and how long a call takes."""
    delay_s = float(os.environ["BIGPE_FAKE_DELAY_S"])
    return BlobStore(Project(project).images), project / "calls.jsonl", delay_s


class _SmallDatabase(sqlite3.Connection):
    """SQLite itself lets it grow no further."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute(f"PRAGMA max_page_count = {os.environ['BIGPE_FAKE_PAGES']}")


def main_on_fakes() -> None:
    """The command; it reads the environment."""
    if os.environ["BIGPE_FAKE_PAGES"]:
        sqlite3.connect = partial(sqlite3.connect, factory=_SmallDatabase)
    Session.open = _open_on_fakes  # pyright: ignore[reportAttributeAccessIssue]
    commands: Any = import_module("bigpe.runtime.cli.results.evaluate")
    commands.open_run_for_evaluation = _open_run_for_evaluation_on_fakes
    main()
