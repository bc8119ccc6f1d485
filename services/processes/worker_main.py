"""The process of a model: JSON lines in, JSON lines out. `SupervisedProcess` starts it.

    python -m bigpe.services.processes.worker_main package.module:function

The first line on standard input is the configuration, of which the function makes the backend.
Every further line is a call, which one line answers. Standard output carries only answers: what
libraries print goes to standard error. When standard input closes, the process ends at once, even
during a call: a model must not outlive its run.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import re
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any, Protocol

from bigpe.services.core.errors import BigpeError, UnusableAnswerError, error_to_json
from bigpe.services.core.values import Json
from bigpe.services.processes.cpu import without_collection

LOST_DEVICE = re.compile(r"\b(CUDA|HIP|cuDNN|cuBLAS|NCCL) error\b", re.IGNORECASE)
"""After such an error every later call of the process fails too (CUDA: a sticky error)."""


class Backend(Protocol):
    """The model that a worker serves."""

    def handle(self, method: str, payload: Json) -> Json:
        """Answer one call. The caller gets a BigpeError as the same class."""
        ...


def load_factory(name: str) -> Callable[[Json], Backend]:
    """The function that `package.module:function` names."""
    module, _, function = name.partition(":")
    factory: Callable[[Json], Backend] = getattr(import_module(module), function)
    return factory


def _read_lines(source: IO[str], lines: queue.Queue[str]) -> None:
    for line in source:
        lines.put(line)
    os._exit(0)


def _failure(error: Exception) -> Json:
    if not isinstance(error, BigpeError):
        lost = LOST_DEVICE.search(str(error)) is not None
        return {"error": {"error": _name(error), "kind": "", "transient": False, "lost": lost}}
    raw = {"raw": error.raw} if isinstance(error, UnusableAnswerError) else {}
    return {"error": {**error_to_json(error), "transient": error.transient, "lost": False, **raw}}


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _answer(call: Callable[[], Json]) -> Json:
    try:
        result = call()
        # Here, so that a result that is no JSON, or is not finite, fails only its own call.
        json.dumps(result, allow_nan=False)
        return {"result": result}
    except Exception as error:  # noqa: BLE001 - every failure is an answer
        traceback.print_exc(file=sys.stderr)
        return _failure(error)


def serve(factory: str) -> None:
    """Serve calls until standard input closes."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_lines, args=(sys.stdin, lines), daemon=True).start()

    def say(answer: Json) -> None:
        protocol.write(json.dumps(answer) + "\n")
        protocol.flush()

    config: Json = json.loads(lines.get())
    made: list[Backend] = []

    def begin() -> Json:
        with without_collection():
            made.append(load_factory(factory)(config))
        gc.freeze()  # no later collection scans the model's code
        return {}

    say(_answer(begin))
    if not made:
        # Not a return: the reading thread would fail during the interpreter's shutdown.
        os._exit(1)
    while True:
        call: dict[str, Any] = json.loads(lines.get())
        say(_answer(lambda call=call: made[0].handle(call["method"], call["payload"])))


if __name__ == "__main__":
    serve(sys.argv[1])
