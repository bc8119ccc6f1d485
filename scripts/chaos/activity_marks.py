"""What a process is doing, told so that a SIGKILL loses nothing of it.

Each mark is one write(2) to a file opened with O_APPEND: the kernel has it before the next step is
taken. `+` begins a span, `-` ends it, `=` says what a commit was acknowledged for. Models are
marked where they are served, in their own process if they have one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bigpe.services.core.values import digest

MARKS_ENV = "BIGPE_TEST_MARKS"
"""Names the file that models in processes of their own write their marks to."""


class Mark(NamedTuple):
    sign: str
    state: str
    ns: int
    """Of CLOCK_MONOTONIC, which all processes of a machine share."""
    pid: int
    keys: list[str]


class Marks:
    """Writes marks to a file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def mark(self, sign: str, state: str, *keys: str) -> None:
        line = json.dumps([sign, state, time.monotonic_ns(), os.getpid(), keys])
        os.write(self._fd, f"{line}\n".encode())

    @contextmanager
    def span(self, state: str, *keys: str) -> Generator[None]:
        self.mark("+", state, *keys)
        try:
            yield
        finally:
            self.mark("-", state, *keys)


def read_marks(path: Path) -> list[Mark]:
    """The marks so far, without one that is being written."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [Mark(*json.loads(line)) for line in whole.splitlines()]


# -- what is asked of a model, named alike by who serves it and by the memo ------------------------


def llm_key(turns: Sequence[Sequence[str]], seed: Any, temperature: Any, max_tokens: Any) -> str:
    """`turns`: (role, text) of each."""
    return digest(["llm", [list(turn) for turn in turns], seed, temperature, max_tokens])


def render_key(item: Any) -> str:
    return digest(["render", item["prompt"], item["seed"]])


def score_key(item: Any) -> str:
    return digest(["score", item["image"], item["prompt"]])


def effect_key(kind: str, request: Any) -> str:
    """The same of a row of the memo."""
    if kind == "llm":
        turns = [(turn["role"], turn["text"]) for turn in request["turns"]]
        return llm_key(turns, request["seed"], request["temperature"], request["max_tokens"])
    return {"render": render_key, "score": score_key}[kind](request)


# -- real models, marked in their own process -----------------------------------------------------


class MarkedBackend:
    """A backend of `bigpe.services.processes.worker_main` that marks its calls."""

    def __init__(self, backend: Any, state: str, keys: Callable[[Any], list[str]]) -> None:
        self._backend = backend
        self._state = state
        self._keys = keys
        self._marks = Marks(os.environ[MARKS_ENV])

    def handle(self, method: str, payload: Any) -> Any:
        if method == "fingerprint":
            return self._backend.handle(method, payload)
        with self._marks.span(self._state, *self._keys(payload)):
            return self._backend.handle(method, payload)


def renderer(config: Any) -> MarkedBackend:
    from bigpe.services.render.diffusers.process import open_backend

    return MarkedBackend(
        open_backend(config), "render", lambda payload: [render_key(i) for i in payload["items"]]
    )


def scorer(config: Any) -> MarkedBackend:
    from bigpe.services.score.clip.process import open_backend

    return MarkedBackend(
        open_backend(config), "score", lambda payload: [score_key(i) for i in payload["items"]]
    )


def language_model(config: Any) -> MarkedBackend:
    from bigpe.services.llm.smollm_process import open_backend

    def keys(payload: Any) -> list[str]:
        turns = [(item["role"], item["content"]) for item in payload["messages"]]
        return [llm_key(turns, payload["seed"], payload["temperature"], payload["max_tokens"])]

    return MarkedBackend(open_backend(config), "llm", keys)
