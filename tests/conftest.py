"""Fixtures of more than one test file."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.http_llm import FakeServer

# A shell that starts pytest in the background has it ignore Ctrl-C, and all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests run beside each other: a second process of a model takes more than its core gives.
os.environ.setdefault("PYTHON_CPU_COUNT", "1")
gc.disable()  # till all tests are imported: imports make hardly any garbage


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """Stands in for OpenAI; no key of this machine's user goes to it, nor a proxy in between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = FakeServer()
    yield made
    made.close()


SLOW = (
    "end_to_end/test_documents.py",
    "end_to_end/test_embedded.py",
    "end_to_end/test_interrupts_and_forks.py",
    "end_to_end/test_viewer.py",
    "faults/test_chaos.py",
    "services/workers/test_ray_pool.py",
    "end_to_end/test_documentation_site.py",
    "end_to_end/test_package.py",
    "services/llm/test_embedded_llm.py",
    "end_to_end/test_cli.py",
    "faults/test_process_faults.py",
    "end_to_end/test_serve.py",
    "end_to_end/test_resume.py",
    "scripts/test_peers.py",
    "end_to_end/test_openai_run.py",
    "end_to_end/test_rate.py",
    "faults/test_llm_faults.py",
    "end_to_end/test_full_disk.py",
    "end_to_end/test_servers_end.py",
    "agents/campaign/test_campaign.py",
    "runtime/integrations/test_refined_pipeline.py",
)
"""Files that take longest, longest first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The workers begin with what takes longest; the short tests then fill them to the end.

    `--dist worksteal` gives each worker an equal part of the list and moves what is left at its
    end.
    """
    gc.freeze()
    gc.enable()
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None:
        return
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(SLOW)}
    slow = sorted((item for item in items if item.path in ranks), key=lambda i: ranks[i.path])
    rest = [item for item in items if item.path not in ranks]
    workers = int(worker["workercount"])
    size, longer = divmod(len(items), workers)
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for item in slow:
        shares[ranks[item.path] % workers].append(item)
    for number, share in enumerate(shares):
        missing = max(0, size + (number >= workers - longer) - len(share))
        share += rest[:missing]
        del rest[:missing]
    items[:] = [item for share in [*shares, rest] for item in share]
