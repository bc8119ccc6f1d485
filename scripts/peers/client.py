"""A peer's side of the race: it runs in the peers' environment, which has no bigpe in it.

All that costs anything is asked of the server, a JSON object a line over a local socket: so the
rewriter, the renderer, the scorer, the paired gain and the ledger are the same code for all.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from statistics import fmean
from typing import Any


class Spent(Exception):
    """The render budget is used."""


class Race:
    """The connection to the server, and what it told of the task."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._file = self._socket.makefile("rw", encoding="utf-8", newline="\n")
        self._lock = threading.Lock()
        task = self._call({"op": "task"})
        self.train: list[str] = task["train"]
        self.validation: list[str] = task["validation"]
        self.initial: list[str] = task["initial"]
        """Instructions to start from: the seed instructions first, then phrases of professional
        prompts."""
        self.seed: int = task["seed"]
        self.budget: int = task["budget"]
        self.spent = 0
        self.out = False
        """Whether an evaluation was refused for want of budget."""
        self._asked = 0
        self._gains: dict[str, dict[str, float]] = defaultdict(dict)

    def evaluate(self, instruction: str, prompt: str, *, evidence: bool = False) -> dict[str, Any]:
        """{"gain", "rewrite", "evidence"}: the paired gain, score units. Spent when it is used."""
        answer = self._call(
            {"op": "evaluate", "instruction": instruction, "prompt": prompt, "evidence": evidence}
        )
        self.spent = answer["spent"]
        if answer.get("refused"):
            self.out = True
            raise Spent
        self._gains[instruction][prompt] = answer["gain"]
        return answer

    def best(self, prompts: int) -> str:
        """The instruction of the highest mean gain on at least a given number of prompts.

        The first to start from when none has been evaluated on as many.
        """
        tried = {text: fmean(g.values()) for text, g in self._gains.items() if len(g) >= prompts}
        return max(tried, key=lambda text: tried[text]) if tried else self.initial[0]

    def ask(self, text: str) -> str:
        """The language model's new instruction for a peer's request."""
        with self._lock:
            self._asked += 1
            number = self._asked
        return self._call({"op": "ask", "text": text, "number": number})["instruction"]

    def finish(self, instruction: str, note: str) -> None:
        """Hand in the instruction that the peer returns."""
        self._call({"op": "finish", "instruction": instruction, "note": note})
        self._socket.close()

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._file.write(json.dumps(request) + "\n")
            self._file.flush()
            line = self._file.readline()
        if not line:
            raise ConnectionError("the race's server has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
