"""Changes of a run's settings after its start, and whether they are allowed.

The verdict is an `AfterStart` marker on the field of the configuration. A field without a marker
needs a fork.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple, get_origin

from pydantic import BaseModel

from bigpe.runtime.project.config import BigpeConfig, section_in
from bigpe.runtime.run.style import as_automatic, style_of_config
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import flat_settings

TEMPLATES = "reasoning.templates"
LONGEST = 400
"""Characters of a value in a message. A longer one is the content of a file."""


def marked_verdict(key: str) -> AfterStart | None:
    """The innermost marker on the path of a dotted key; None if no field has one."""
    return _marker(BigpeConfig, key.split("."))


def _marker(section: type[BaseModel], path: Sequence[str]) -> AfterStart | None:
    for name, field in section.model_fields.items():
        if path[:1] == [field.alias or name]:
            own = next((mark for mark in field.metadata if isinstance(mark, AfterStart)), None)
            inner, below = section_in(field.annotation), path[1:]
            if get_origin(field.annotation) is dict:
                below = below[1:]  # a name, as in [llm.NAME]
            return (_marker(inner, below) if inner else None) or own
    return None


class Change(NamedTuple):
    """A setting that differs from the run's own; a value is None if it is not set."""

    key: str
    before: Any
    after: Any

    @property
    def verdict(self) -> AfterStart:
        """Whether the change is allowed, and whether it takes effect."""
        return marked_verdict(self.key) or AfterStart.NEEDS_FORK

    def __str__(self) -> str:
        return (
            f"{self.key}: {_value_text(self.before)} -> {_value_text(self.after)} ({self.verdict})"
        )


def compare(run: BigpeConfig, wanted: BigpeConfig) -> list[Change]:
    """The differences, sorted by key."""
    before, after = (
        flat_settings(as_automatic(config, style_of_config(config)).model_dump(mode="json"))
        for config in (run, wanted)
    )
    return [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def require_allowed(run: str, changes: list[Change]) -> None:
    """ConfigError with the differences and the remedy, if a change needs a fork."""
    refused = [change for change in changes if change.verdict == AfterStart.NEEDS_FORK]
    if not refused:
        return
    lines = "\n".join(f"  {change}" for change in changes)
    settings = " ".join(
        dict.fromkeys(f"--set {_setting(c)}" for c in changes if c.after is not None)
    )
    raise ConfigError(
        f"run {run!r} has begun with other settings:\n{lines}\n"
        f"Results would not be comparable after such a change of {_keys(refused)}. "
        f"Set it back (`bigpe resume {run}` goes on with the run's own settings), or start a "
        f"fork, which shares all that was paid for and stays valid:\n"
        f"  bigpe fork {run} NEW-NAME {settings}"
    )


def _keys(changes: list[Change]) -> str:
    keys = [change.key for change in changes]
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"


def _setting(change: Change) -> str:
    if change.key.startswith(TEMPLATES):
        return f"{TEMPLATES}=FOLDER"
    return shlex.quote(f"{change.key}={_toml(change.after)}")


def _value_text(value: Any) -> str:
    text = "not set" if value is None else _toml(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"


def _toml(value: Any) -> str:
    """The value as TOML. Scalars and lists look the same in JSON, and no value is a table."""
    return json.dumps(value, ensure_ascii=False)
