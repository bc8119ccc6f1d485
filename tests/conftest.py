"""Fixtures of more than one test file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http_llm import FakeServer

# A shell that starts pytest in the background has it ignore Ctrl-C, and all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
    "services/workers/test_ray_pool.py",
    "services/llm/test_embedded_llm.py",
    "end_to_end/test_documentation_site.py",
    "end_to_end/test_viewer.py",
    "agents/campaign/test_campaign.py",
    "end_to_end/test_resume.py",
    "end_to_end/test_cli.py",
    "end_to_end/test_full_disk.py",
    "end_to_end/test_servers_end.py",
    "runtime/integrations/test_refined_pipeline.py",
)
"""Files that take longest, longest first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Two workers begin with what takes longest; the short tests then fill both to the end.

    `--dist worksteal` gives each worker a half of the list and moves what is left at its end.
    """
    if not hasattr(config, "workerinput"):
        return
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(SLOW)}
    halves: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    rest: list[pytest.Item] = []
    for item in sorted(items, key=lambda item: ranks.get(item.path, len(SLOW))):
        rank = ranks.get(item.path)
        (rest if rank is None else halves[rank % 2]).append(item)
    missing = max(0, len(items) // 2 - len(halves[0]))
    items[:] = [*halves[0], *rest[:missing], *halves[1], *rest[missing:]]
