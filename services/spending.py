"""For whom a call of a model is made: known by context, so that no call has to be told."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from bigpe.services.values import LlmUsage


@dataclass
class Spender:
    """A step of an actor, and what it has asked language models for so far."""

    run: str
    actor: str
    round: int
    answered: LlmUsage = LlmUsage()
    """Of usable answers: a step that is tried again asks for them again, and has them."""
    lost: LlmUsage = LlmUsage()
    """Of calls without a usable answer."""


_SPENDER: ContextVar[Spender | None] = ContextVar("spender", default=None)


@contextmanager
def spending(run: str, actor: str, round: int) -> Generator[Spender]:
    """Calls made inside, and in tasks that are started inside, are this spender's."""
    spender = Spender(run, actor, round)
    token = _SPENDER.set(spender)
    try:
        yield spender
    finally:
        _SPENDER.reset(token)


def current_spender() -> Spender | None:
    """Whose calls are being made; None outside of a run."""
    return _SPENDER.get()


def note_answered(usage: LlmUsage) -> None:
    """The current spender was answered."""
    if spender := _SPENDER.get():
        spender.answered += usage


def note_lost(usage: LlmUsage) -> None:
    """A call of the current spender brought nothing that can be used."""
    if spender := _SPENDER.get():
        spender.lost += usage
