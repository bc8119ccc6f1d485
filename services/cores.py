"""How many processor cores a run may use, and how many model processes share them."""

from __future__ import annotations

import os

MOST_PROCESSES = 4
"""Of one small model: 0.4 GB each, and a batch of five prompts keeps no more of them busy."""


def process_cores() -> int:
    """Cores that this process may use: PYTHON_CPU_COUNT, else its affinity, else all there are.

    What os.process_cpu_count tells from Python 3.13 on, by the same variable.
    """
    told = os.environ.get("PYTHON_CPU_COUNT", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processes_for(threads: int, cores: int) -> int:
    """Processes of `threads` each that fill the cores, at least one, at most MOST_PROCESSES."""
    return max(1, min(cores // threads, MOST_PROCESSES))
