"""Backends of real child processes that work as the fakes do, and break on one prompt.

The fault and the prompt come from the environment, which a child inherits.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from bigpe.services.core.values import RenderRequest, ScoreRequest
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fake_images import FakeRenderer, FakeScorer

FAULT = "BIGPE_TEST_FAULT"
POISON = "BIGPE_TEST_POISON"
MODEL = "BIGPE_TEST_MODEL"
"""Names the file that is the model of `Replaced`."""
LOST = ("segfault", "hang", "killed", "sticky")
"""Faults that cost the process."""


def lose_process(fault: str) -> None:
    """Nothing, when the fault is one that the process survives."""
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "hang":
        time.sleep(600)
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


class Faulty:
    """Does what its fake does, but for the prompts that contain the poison."""

    def __init__(self, fake: Any, fault: str) -> None:
        self._fake = fake
        self._fault = fault
        self._broken = False

    def handle(self, method: str, payload: Any) -> Any:
        if method == "fingerprint":
            return {"fingerprint": asyncio.run(self._fake.open())}
        if self._broken:
            raise RuntimeError("CUDA error: device-side assert triggered (again)")
        poison = os.environ[POISON]
        if any(poison in item["prompt"] for item in payload["items"]):
            self._break(self._fault)
        return {"items": [self._answer(method, item, poison) for item in payload["items"]]}

    def _break(self, fault: str) -> None:
        lose_process(fault)
        if fault == "sticky":
            self._broken = True
            raise RuntimeError("CUDA error: device-side assert triggered")
        if fault == "exception":
            raise ValueError("latents of odd shape")

    def _answer(self, method: str, item: Any, poison: str) -> Any:
        kinds: Any = {"render": RenderRequest, "score": ScoreRequest}
        [made] = asyncio.run(getattr(self._fake, method)([kinds[method](**item)]))
        outcome = made.model_dump(mode="json")
        if self._fault == "nan" and poison in item["prompt"]:
            outcome["value"] = float("nan")
        return outcome


class Replaced(Faulty):
    """Its model is a file, which is another one when the process has died of the poison."""

    def __init__(self, fake: Any) -> None:
        super().__init__(fake, "killed")
        self._weights = Path(os.environ[MODEL]).read_text()

    def handle(self, method: str, payload: Any) -> Any:
        if method != "fingerprint":
            return super().handle(method, payload)
        result = asyncio.run(self._fake.open()) if self._weights == "first" else "another"
        return {"fingerprint": result, "fingerprint_inputs": {"weights": self._weights}}

    def _break(self, fault: str) -> None:
        Path(os.environ[MODEL]).write_text("second")
        super()._break(fault)


def replaced_renderer(config: Any) -> Replaced:
    return Replaced(FakeRenderer(BlobStore(Path(config["images"]))))


def replaced_scorer(config: Any) -> Replaced:
    return Replaced(FakeScorer(BlobStore(Path(config["images"]))))


def renderer(config: Any) -> Faulty:
    return Faulty(FakeRenderer(BlobStore(Path(config["images"]))), os.environ[FAULT])


def sound_renderer(config: Any) -> Faulty:
    return Faulty(FakeRenderer(BlobStore(Path(config["images"]))), "none")


def sound_scorer(config: Any) -> Faulty:
    return Faulty(FakeScorer(BlobStore(Path(config["images"]))), "none")


def scorer(config: Any) -> Faulty:
    return Faulty(FakeScorer(BlobStore(Path(config["images"]))), os.environ[FAULT])


class FaultyLlm:
    """Rewrites any prompt in one way, but for those that contain the poison."""

    def handle(self, method: str, payload: Any) -> Any:
        words = "cannot say"
        if "response_format" not in payload:
            naive = str(payload["messages"][-1]["content"]).strip().splitlines()[-1]
            if os.environ[POISON] in naive:
                self._break()
            words = f"{naive}, golden look"
        choice = {"message": {"content": words}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 3}}

    def _break(self) -> None:
        fault = os.environ[FAULT]
        if not fault.startswith("stuck once:"):
            return lose_process(fault)
        note = Path(fault.removeprefix("stuck once:"))
        if not note.exists():
            note.with_suffix(".new").write_text(str(os.getpid()))
            note.with_suffix(".new").replace(note)
            lose_process("hang")


def language_model(config: Any) -> FaultyLlm:
    return FaultyLlm()
