"""Where models compute, and with which numbers; of PyTorch alone, for every model process."""

from __future__ import annotations

import torch

from bigpe.services.errors import ConfigError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pick_device(wanted: str) -> str:
    """The device; ConfigError when a device that was asked for is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError('device = "cuda", but torch finds no CUDA device; use "auto" or "cpu"')
    return wanted


def pick_dtype(wanted: str, device: str) -> torch.dtype:
    """The number type: float16 on a GPU, float32 on a CPU unless another was asked for."""
    if wanted == "auto":
        return torch.float16 if device == "cuda" else torch.float32
    return DTYPES[wanted]
