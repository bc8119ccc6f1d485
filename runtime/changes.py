"""Which settings of a run may change after it has begun.

A setting that results depend on may not: what was measured before and after could not be compared.
Every setting stands in one of the two lists; one that stands in neither is refused.
"""

from __future__ import annotations

import json
import shlex
from typing import Any, Literal, NamedTuple

from bigpe.runtime.config import BigpeConfig
from bigpe.services.errors import ConfigError
from bigpe.services.values import flat_settings

Verdict = Literal["takes effect", "changes no result", "if the model is the same", "needs a fork"]
MAY_CHANGE: tuple[tuple[str, Verdict], ...] = (
    ("budget.*", "takes effect"),
    ("prices.*", "takes effect"),
    ("run.rounds", "takes effect"),
    ("run.patience", "takes effect"),
    ("run.concurrency", "takes effect"),
    ("run.durability", "changes no result"),
    ("llm.*.timeout_s", "changes no result"),
    ("llm.*.concurrency", "changes no result"),
    ("llm.*.api_key_env", "changes no result"),
    ("llm.*.allow_providers", "changes no result"),
    ("render.call_timeout_s", "changes no result"),
    ("render.http.api_key_env", "changes no result"),
    ("render.http.concurrency", "changes no result"),
    ("render.http.max_mb", "changes no result"),
    ("score.call_timeout_s", "changes no result"),
    ("score.http.api_key_env", "changes no result"),
    ("score.http.concurrency", "changes no result"),
    ("score.http.max_mb", "changes no result"),
    ("roles.*.timeout_s", "changes no result"),
    ("roles.*.allow", "changes no result"),
    ("render.http.urls", "if the model is the same"),
    ("render.max_batch", "if the model is the same"),
    ("score.http.urls", "if the model is the same"),
    ("score.max_batch", "if the model is the same"),
    ("workers.*", "if the model is the same"),
)
"""Where and how the work is done. What a model tells of itself decides where it may matter: the
workers at another address must be of the same model, device and releases (see same_models)."""
NEEDS_A_FORK: tuple[str, ...] = (
    "run.batch_size",
    "run.seeds_per_prompt",
    "run.seed",
    "run.pool_size",
    "run.pilot_prompts",
    "run.improvements",
    "policy.name",
    "policy.exploration",
    "policy.epsilon",
    "policy.options.*",
    "data.naive",
    "data.column",
    "data.professional",
    "data.seeds",
    "llm.*.provider",
    "llm.*.config.*",
    "render.backend",
    "render.options.*",
    "render.model",
    "render.revision",
    "render.variant",
    "render.device",
    "render.dtype",
    "render.steps",
    "render.guidance",
    "render.size",
    "render.negative_prompt",
    "render.scheduler",
    "render.timestep_spacing",
    "render.vae",
    "render.deterministic",
    "render.threads",
    "render.http.extra.*",
    "render.http.send_seed",
    "render.http.workflow",
    "score.backend",
    "score.options.*",
    "score.model",
    "score.device",
    "score.dtype",
    "score.compile",
    "score.threads",
    "score.guard",
    "constraints.max_tokens",
    "constraints.required",
    "constraints.banned",
    "constraints.artists",
    "constraints.banned_file",
    "constraints.artists_file",
    "constraints.script",
    "constraints.safety",
    "roles.*.class",
    "roles.*.agent",
    "roles.*.agent.*",
    "roles.*.shape",
    "roles.*.reads",
    "roles.*.replay",
    "roles.*.before",
    "roles.*.required",
    "roles.*.max_texts",
    "roles.*.max_chars",
    "roles.*.max_llm_calls",
    "roles.*.options.*",
)
"""Threads are among them: they change the order of sums, and so the last digits. Of eight pictures
of the embedded model, four differ between one thread and two. Observers come and go all the same
(see settling)."""


def matches(pattern: str, key: str) -> bool:
    """Whether a dotted key is meant: `*` stands for one part of it, at the end for all the rest."""
    parts, wanted = key.split("."), pattern.split(".")
    if wanted[-1] == "*":
        wanted, parts = wanted[:-1], parts[: len(wanted) - 1] if len(parts) >= len(wanted) else []
    return len(parts) == len(wanted) and all(
        want in ("*", part) for want, part in zip(wanted, parts, strict=True)
    )


class Change(NamedTuple):
    """A setting that differs from the one that the run has; values are None when not set."""

    key: str
    before: Any
    after: Any

    @property
    def verdict(self) -> Verdict:
        """What becomes of it."""
        for pattern, verdict in MAY_CHANGE:
            if matches(pattern, self.key):
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
