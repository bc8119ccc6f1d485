"""Common parts of the commands: options, output, the event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tomllib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.runtime.project.paths import Project, no_such_run
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store

T = TypeVar("T")

DEFAULT_RUN = "main"
PAUSED = 130
"""Exit code of a command that Ctrl-C or SIGTERM paused, as shells expect."""
SWITCH_S = 0.0005
"""Waiting time of a thread before it requests the interpreter's lock."""

project_option = click.option(
    "-p",
    "--project",
    default=".",
    show_default="this folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The project folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
run_argument = click.argument("run", default=DEFAULT_RUN)
set_option = click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Override a setting."
)


def perform(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    # Without this a full collection scans all imported objects and blocks the event loop for 0.1 s.
    gc.freeze()
    # The store's threads request the interpreter's lock about 7 times per transaction. With
    # Python's 5 ms each, a busy event loop would halve their throughput.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        return asyncio.run(work)
    finally:
        sys.setswitchinterval(usual)
        gc.unfreeze()


fresh_option = click.option(
    "--fresh",
    is_flag=True,
    help="Forget the answers of language models from before, and ask anew. Not for the embedded "
    "model, whose answers are the same each time.",
)


def print_json(value: Any) -> None:
    """Print a JSON value on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def stdout() -> Console:
    """A console on stdout; it breaks lines on a terminal only."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    return console


def stderr() -> Console:
    """A console on stderr, for progress."""
    return Console(stderr=True, highlight=False)


@asynccontextmanager
async def reading(project: Path, run: str | None = None) -> AsyncGenerator[Store]:
    """Open the project's store for reading. ConfigError if it has no such `run`."""
    async with Store(Project(project).database, read_only=True) as store:
        if run is not None:
            await require_run(store, run)
        yield store


def read_store(project: Path, work: Callable[[Store], Awaitable[T]], run: str | None = None) -> T:
    """The result of `work` on the project's store. ConfigError if it has no such `run`."""

    async def read() -> T:
        async with reading(project, run) as store:
            return await work(store)

    return perform(read())


async def require_run(store: Store, run: str) -> None:
    """ConfigError with the names of all runs, if there is no such run."""
    if await store.row("get_run", name=run) is None:
        raise await no_such_run(store, run)


def with_changes(config: BigpeConfig, changes: tuple[str, ...]) -> BigpeConfig:
    """Apply `section.key=value` settings to `config`; a value that is not TOML is text."""
    raw: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for change in changes:
        path, sign, text = change.partition("=")
        keys = path.strip().split(".")
        if not sign or len(keys) < 2:
            raise ConfigError(f"--set {change}: write it as section.key=value")
        table = raw
        for key in keys[:-1]:
            table = table.setdefault(key, {})
        table[keys[-1]] = _toml_value(text)
    return check_config(raw, where="--set") if changes else config


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
