"""CPU settings of processes: cores, number of processes, environment, garbage collection."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from contextlib import contextmanager

MOST_PROCESSES = 4
"""Processes of one small model. Each takes 0.4 GB, and a batch of five prompts uses no more."""
MAX_WAIT_S = 0.02
"""How long a queue waits for more requests before it sends a batch that is not full, seconds."""


def process_cores() -> int:
    """Cores that this process may use: PYTHON_CPU_COUNT, else its CPU affinity, else all cores.

    Python 3.13 has os.process_cpu_count, which reads the same variable.
    """
    setting = os.environ.get("PYTHON_CPU_COUNT", "")
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processes_for(threads: int, cores: int) -> int:
    """Processes of `threads` threads that fill the cores: at least 1, at most MOST_PROCESSES."""
    return max(1, min(cores // threads, MOST_PROCESSES))


def thread_env(threads: int) -> dict[str, str]:
    """Environment variables of a torch process: `threads` threads that sleep while idle."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
    }


@contextmanager
def without_collection() -> Generator[None]:
    """Stop garbage collection during imports: they make many objects and hardly any garbage.

    Collections are a quarter of the time in which torch, diffusers and transformers load.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
