"""Atomic files and progress lines: what makes every stage resumable at any kill."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def replace_with(path: Path, partial: Path) -> None:
    """Move a finished `partial` file over `path`."""
    os.replace(partial, path)


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that is either the old one or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    replace_with(path, partial)


def load_tensors(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None when there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None


def save_array(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    replace_with(path, partial)


def save_json(path: Path, value: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    replace_with(path, partial)


class Progress:
    """Prints a line every `every` steps with the speed and the time left."""

    def __init__(self, stage: str, first: int, last: int, every: int) -> None:
        self._stage, self._first, self._last, self._every = stage, first, last, every
        self._start = time.monotonic()

    def minutes(self) -> float:
        """Minutes since this session of the stage began."""
        return (time.monotonic() - self._start) / 60

    def report(self, step: int, **figures: float) -> None:
        if step % self._every and step != self._last:
            return
        pace = self.minutes() * 60 / max(1, step - self._first)
        left = pace * (self._last - step) / 60
        displayed = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(
            f"{time.strftime('%H:%M:%S')} {self._stage} {step}/{self._last} {displayed} "
            f"{pace:.3f} s/step, {left:.1f} min left",
            flush=True,
        )
