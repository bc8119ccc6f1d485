"""Backends for the child process, and tiny models of the real formats, made on the spot."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from bigpe.services import errors

HERE = Path(__file__).resolve().parent
TEST_ENV = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
"""Lets a child import this module."""


class Scripted:
    """Does what the payload says."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def handle(self, method: str, payload: dict[str, Any]) -> dict[str, Any]:
        return getattr(self, f"do_{method}")(**payload)

    def do_echo(self, **payload: Any) -> dict[str, Any]:
        return payload

    def do_config(self) -> dict[str, Any]:
        return {"config": self._config, "env": os.environ.get("OMP_NUM_THREADS")}

    def do_pid(self) -> dict[str, Any]:
        return {"pid": os.getpid()}

    def do_fail(self, kind: str, **given: Any) -> dict[str, Any]:
        known: Any = (
            getattr(errors, kind, None) or {"ValueError": ValueError, "New": NewError}[kind]
        )
        raise known("it broke", **given)

    def do_noise(self) -> dict[str, Any]:
        sys.stdout.write("hello from python\n")
        sys.stdout.flush()
        os.write(1, b"hello from C\n")
        return {}

    def do_shout(self, bytes: int) -> dict[str, Any]:
        sys.stderr.write(("x" * 99 + "\n") * (bytes // 100))
        return {}

    def do_sleep(self, seconds: float) -> dict[str, Any]:
        time.sleep(seconds)
        return {}

    def do_exit(self, code: int) -> dict[str, Any]:
        os.write(2, b"last words\n")
        os._exit(code)

    def do_nan(self) -> dict[str, Any]:
        return {"value": float("nan")}


class NewError(errors.BigpeError):
    """Not a class that the parent knows."""

    transient = True


def scripted(config: dict[str, Any]) -> Scripted:
    """The factory of `Scripted`; refuses to start when told to."""
    if kind := config.get("refuse"):
        raise getattr(errors, kind)("not like this")
    return Scripted(config)
