"""Which settings of a run may change after it has begun.

A setting that results depend on may not: what was measured before and after could not be compared.
A new setting is refused until it stands here.
"""

from __future__ import annotations

import json
import shlex
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from bigpe.runtime.config import BigpeConfig, flat_settings
from bigpe.services.errors import ConfigError

Verdict = Literal["takes effect", "changes no result", "needs a fork"]
MAY_CHANGE: tuple[tuple[str, Verdict], ...] = (
    ("budget.*", "takes effect"),
    ("prices.*", "takes effect"),
    ("run.rounds", "takes effect"),
    ("run.patience", "takes effect"),
    ("run.concurrency", "takes effect"),
    ("run.durability", "changes no result"),
    ("llm.*.timeout_s", "changes no result"),
    ("llm.*.api_key_env", "changes no result"),
    ("llm.*.allow_providers", "changes no result"),
    ("render.call_timeout_s", "changes no result"),
    ("score.call_timeout_s", "changes no result"),
)
"""Not threads, devices and batch sizes: they change the last digits of pictures and scores."""


class Change(NamedTuple):
    """A setting that differs from the one that the run has; values are None when not set."""

    key: str
    before: Any
    after: Any

    @property
    def verdict(self) -> Verdict:
        """What becomes of it."""
        for pattern, verdict in MAY_CHANGE:
            if fnmatchcase(self.key, pattern):
                return verdict
        return "needs a fork"

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)} ({self.verdict})"


def compare(run: BigpeConfig, wanted: BigpeConfig) -> list[Change]:
    """What differs, by key."""
    before = flat_settings(run.model_dump(mode="json"))
    after = flat_settings(wanted.model_dump(mode="json"))
    return [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def require_allowed(run: str, changes: list[Change]) -> None:
    """ConfigError with the difference and the way out, when a change needs a fork."""
    refused = [change for change in changes if change.verdict == "needs a fork"]
    if not refused:
        return
    told = "\n".join(f"  {change}" for change in changes)
    settings = " ".join(f"--set {_setting(c)}" for c in changes if c.after is not None)
    raise ConfigError(
        f"run {run!r} has begun with other settings:\n{told}\n"
        f"Results would not be comparable after such a change of {_keys(refused)}. "
        f"Set it back (`bigpe resume {run}` goes on with the run's own settings), or start a "
        f"fork, which shares all that was paid for and stays valid:\n"
        f"  bigpe fork {run} NEW-NAME {settings}"
    )


def _keys(changes: list[Change]) -> str:
    keys = [change.key for change in changes]
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"


def _setting(change: Change) -> str:
    return shlex.quote(f"{change.key}={_toml(change.after)}")


def _shown(value: Any) -> str:
    return "not set" if value is None else _toml(value)


def _toml(value: Any) -> str:
    """Scalars and lists are written in TOML as in JSON; there are no tables left here."""
    return json.dumps(value, ensure_ascii=False)
