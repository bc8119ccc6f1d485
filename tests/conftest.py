"""Fixtures of more than one test file."""

from __future__ import annotations

import signal
from collections.abc import Iterator

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
