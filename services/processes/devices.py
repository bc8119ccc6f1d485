"""Selects the torch device and the number type of a model process."""

from __future__ import annotations

import torch

from bigpe.services.core.errors import ConfigError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pick_device(wanted: str) -> str:
    """The name of the torch device. ConfigError when `wanted` is "cuda" and torch finds none."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError('device = "cuda", but torch finds no CUDA device; use "auto" or "cpu"')
    return wanted


def pick_dtype(wanted: str, device: str) -> torch.dtype:
    """The number type. "auto": float16 on CUDA; float32 elsewhere, where half precision is slow."""
    if wanted == "auto":
        return torch.float16 if device == "cuda" else torch.float32
    return DTYPES[wanted]
