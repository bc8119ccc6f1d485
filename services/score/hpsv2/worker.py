"""The official hpsv2 package as a scorer process: JSON lines in, JSON lines out.

    ENVIRONMENT/bin/python hpsv2_worker.py

It runs in an environment of its own, without bigpe in it, so it imports nothing of bigpe; the lines
are those of `bigpe.services.processes.worker_main`. The first one is the configuration:
    {"checkpoint": "/…/HPS_v2.1_compressed.pt", "threads": 2, "architecture": null}
`architecture` is an open_clip model configuration; null is the package's own ViT-H-14. Calls:
    {"method": "versions", "payload": {}}
    {"method": "score", "payload": {"items": [{"image": "/…/a.png", "prompt": "a cat"}, …]}}
    {"method": "score_images", "payload": {"images": ["/…/a.png", …], "prompt": "a cat"}}

The package runs as it is but for three things that keep it from running at all: `turtle` (imported
by mistake, needs tkinter), torchvision's compiled operators (unused, absent beside a CPU torch) and
the download of base weights that the checkpoint then overwrites whole.
"""

from __future__ import annotations

import json
import math
import os
import queue
import sys
import threading
import traceback
import types
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("hpsv2", "torch", "torchvision", "ftfy", "regex", "pillow")


def import_package() -> Any:
    """The module hpsv2.img_score."""
    turtle: Any = types.ModuleType("turtle")
    turtle.forward = None
    sys.modules["turtle"] = turtle
    try:
        import torchvision  # noqa: F401  # type: ignore[import-not-found]  # its environment only
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        fakes = "torchvision._meta_registrations"
        sys.modules[fakes] = types.ModuleType(fakes)
    from hpsv2 import img_score  # type: ignore[import-not-found]  # its environment only

    return img_score


class Hpsv2:
    """hpsv2.img_score with a checkpoint."""

    def __init__(self, config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(int(config["threads"]))
        self._checkpoint = str(config["checkpoint"])
        self._package = import_package()
        self._make_model(config.get("architecture"))

    def _make_model(self, architecture: dict[str, Any] | None) -> None:
        """What `initialize_model` does, without the base weights."""
        from hpsv2.src.open_clip import factory  # type: ignore[import-not-found]  # its environment only

        if architecture is not None:
            factory._MODEL_CONFIGS["ViT-H-14"] = architecture
        model, _, preprocess = factory.create_model_and_transforms(
            "ViT-H-14",
            None,
            precision="amp",
            device=self._package.device,
            light_augmentation=True,
            aug_cfg={},
            output_dict=True,
        )
        self._package.model_dict.update(model=model, preprocess_val=preprocess)

    def versions(self) -> dict[str, Any]:
        """The releases that a score depends on."""
        return {"versions": {name: _version(name) for name in PACKAGES}}

    def score(self, items: list[dict[str, str]]) -> dict[str, Any]:
        """One call of the package an item, since a picture it cannot take fails the whole call."""
        return {"items": [self._one(item["image"], item["prompt"]) for item in items]}

    def score_images(self, images: list[str], prompt: str) -> dict[str, Any]:
        """One call of the package for all."""
        values = self._package.score(images, prompt, cp=self._checkpoint)
        return {"values": [float(value) for value in values]}

    def tokenize(self, prompts: list[str]) -> dict[str, Any]:
        """The ids that the package makes, 77 each."""
        from hpsv2.src.open_clip import tokenize  # type: ignore[import-not-found]  # its environment only

        return {"ids": tokenize(prompts).tolist()}

    def _one(self, image: str, prompt: str) -> dict[str, Any]:
        try:
            value = self.score_images([image], prompt)["values"][0]
        except Exception as error:  # noqa: BLE001 - the package raises what its libraries raise
            traceback.print_exc(file=sys.stderr)
            return {"error": f"hpsv2 cannot score it: {type(error).__name__}: {error}"[:500]}
        return {"value": value} if math.isfinite(value) else {"error": "its score is not finite"}


METHODS = ("versions", "score", "score_images", "tokenize")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _failure(error: Exception) -> dict[str, Any]:
    """The failure of a call in the form of `supervised_process`. No retry can help."""
    message = f"{type(error).__name__}: {error}"[:500]
    return {"error": {"error": message, "kind": "ScoreError", "transient": False}}


def _read_lines(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def main() -> None:
    """Serve calls until standard input closes; what libraries print goes to standard error."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()

    def say(answer: dict[str, Any]) -> None:
        protocol.write(json.dumps(answer) + "\n")
        protocol.flush()

    try:
        backend = Hpsv2(json.loads(lines.get()))
    except Exception as error:  # noqa: BLE001 - the process that started this one gets it
        traceback.print_exc(file=sys.stderr)
        say(_failure(error))
        os._exit(1)
    say({"result": {}})
    while True:
        call = json.loads(lines.get())
        try:
            if call["method"] not in METHODS:
                raise ValueError(f"the scorer has no method {call['method']!r}")
            say({"result": getattr(backend, call["method"])(**call["payload"])})
        except Exception as error:  # noqa: BLE001 - every failure is an answer
            traceback.print_exc(file=sys.stderr)
            say(_failure(error))


if __name__ == "__main__":
    main()
