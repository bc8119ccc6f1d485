"""Servers on this machine in place of those that a documentation page talks to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.fake_hub import TOKEN, FakeHub
from support.http_pictures import Answer, Asked, PictureServer


class StandIn(NamedTuple):
    """What a reader needs to reach it instead."""

    environment: dict[str, str]
    address: str
    """As the page writes it; "" if the environment alone leads there."""
    url: str
    was_asked: Callable[[], bool]
    """Whether what the page does reached it."""


class Receiver(PictureServer):
    """An OTLP receiver that keeps what it is sent."""

    def answer(self, request: Asked) -> Answer:
        return Answer(b"")


@contextmanager
def _receiver(folder: Path) -> Generator[StandIn]:
    receiver = Receiver(read_json=False)
    try:
        yield StandIn({}, "http://127.0.0.1:4318", receiver.url, lambda: bool(receiver.asked))
    finally:
        receiver.close()


@contextmanager
def _hub(folder: Path) -> Generator[StandIn]:
    hub = FakeHub()
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf")}
    try:
        yield StandIn(environment, "", hub.url, lambda: bool(hub.repos))
    finally:
        hub.close()


STAND_INS = {"a receiver": _receiver, "a hub": _hub}
