"""One resumable training loop; each stage supplies a loss for a step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedded_world.embedded.files import Progress, load_tensors, save_tensors

Loss = tuple[Tensor, dict[str, float]]
"""The loss of a step, and figures for the progress line."""


@dataclass(frozen=True)
class Schedule:
    """How long a stage trains, how fast, and when it saves."""

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    decay: float = 1.0
    """The share of the steps, at the end, over which the rate falls to a fiftieth (cosine)."""
    save_every: int = 200
    report_every: int = 50
    minutes: float = math.inf
    """Stop this session after so long, with a checkpoint to go on from."""
    seed: int = 0

    def rate_at(self, step: int) -> float:
        start = self.steps * (1 - self.decay)
        done = min(1.0, max(0.0, (step - start) / max(1.0, self.steps - start)))
        fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
        return self.rate * min(1.0, (step + 1) / self.warmup) * fall

    def rng_at(self, step: int) -> random.Random:
        """Randomness that depends on the step alone, so that a resumed run goes on the same."""
        torch.manual_seed(self.seed * 1_000_003 + step)
        return random.Random(f"{self.seed}:{step}")


class Average:
    """An exponential moving average of a network's parameters."""

    def __init__(self, network: nn.Module, longest: float = 0.999) -> None:
        self._live = list(network.parameters())
        self.values = [p.detach().clone() for p in self._live]
        self._longest = longest

    def update(self, step: int) -> None:
        keep = min(self._longest, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in self._live], 1 - keep)


def train(
    stage: str,
    path: Path,
    network: nn.Module,
    schedule: Schedule,
    loss_of: Callable[[int, random.Random], Loss],
    average: bool = False,
) -> int:
    """Train `network` until the schedule ends; returns the step reached."""
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
    )
    mean = Average(network) if average else None
    step = _resume(path, network, optimiser, mean)
    progress = Progress(stage, step, schedule.steps, schedule.report_every)
    smooth = 0.0
    while step < schedule.steps and progress.minutes() < schedule.minutes:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        loss, figures = loss_of(step, schedule.rng_at(step))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        if mean is not None:
            mean.update(step)
        smooth = loss.item() if smooth == 0.0 else 0.98 * smooth + 0.02 * loss.item()
        progress.report(step, loss=smooth, **figures)
        if step % schedule.save_every == 0:
            _save(path, network, optimiser, mean, step)
    _save(path, network, optimiser, mean, step)
    return step


def _save(path: Path, network: nn.Module, optimiser: Any, mean: Average | None, step: int) -> None:
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    if mean is not None:
        state["average"] = mean.values
    save_tensors(path, state)


def _resume(path: Path, network: nn.Module, optimiser: Any, mean: Average | None) -> int:
    state = load_tensors(path)
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    if mean is not None:
        mean.values = state["average"]
    return int(state["step"])


def load_trained(path: Path, network: nn.Module, average: bool = False) -> int:
    """Put a checkpoint's weights (or their average) into `network`; returns its step."""
    state = load_tensors(path)
    if state is None:
        raise FileNotFoundError(f"{path}: that stage has not run yet")
    network.load_state_dict(state["network"])
    if average:
        for parameter, value in zip(network.parameters(), state["average"], strict=True):
            parameter.data.copy_(value)
    network.eval()
    return int(state["step"])
