"""What a role of another package is: an observer, a gate or a contributor. See docs/roles.md.

A role is a class with one method. It runs in a thread of its own, so that it may block, hang or
fail without harm to the run; what it says is kept, and it is asked about each message once. So a
role that keeps to its arguments, and to `last`, needs no storage of its own and survives `kill -9`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel

from bigpe.agents.messages.core import AnyMessage, CritiqueRequested, Gradient
from bigpe.agents.messages.plugin import Gateable, Judgement
from bigpe.services.core.errors import BigpeError
from bigpe.services.llm.service import LlmClient

__all__ = ["Contributor", "Gate", "Gradient", "Judgement", "Observer", "RoleContext", "RoleError"]


class RoleError(BigpeError):
    """A role of another package failed, took too long or said too much."""


@dataclass(frozen=True)
class RoleContext:
    """What a role is given."""

    name: str
    """Its NAME in `[roles.NAME]`, and in the transcript."""
    options: Any
    """`[roles.NAME.options]`: an instance of the class's `Options`, or a dict without one."""
    llm: LlmClient
    """The model of `[llm.NAME]`, else the default one; every call is paid once and counted."""
    sees: bool
    """Whether that model takes pictures."""
    picture: Callable[[str], bytes]
    """The PNG file of a picture's digest."""


class PluginRole:
    """Base of the three shapes."""

    Options: ClassVar[type[BaseModel] | None] = None
    """The model of the role's own settings."""

    def __init__(self, context: RoleContext) -> None:
        self.context = context


class Observer(PluginRole, ABC):
    """Reads messages and may say something about each. It changes nothing of the run."""

    reads: ClassVar[tuple[str, ...]] = ()
    """The kinds of messages that it reads; `[roles.NAME] reads` replaces them."""

    @abstractmethod
    async def read(self, message: AnyMessage, last: str) -> str | Sequence[str] | None:
        """What to say about `message`, if anything; `last`: what it said last, "" before.

        Messages come in the order of the transcript, one at a time.
        """


class Gate(PluginRole, ABC):
    """Judges an answer before the coordinator takes it."""

    before: ClassVar[Gateable] = "InstructionsProposed"
    """The kind of answer that it guards."""

    @abstractmethod
    async def judge(self, message: AnyMessage, items: Sequence[str]) -> Sequence[Judgement]:
        """Judgements of the items that it does not keep as they are.

        `items` are the texts of `message`: instructions, improvements or rewrites.
        """


class Contributor(PluginRole, ABC):
    """Writes gradients that compete with those of the built-in Gradient Calculator."""

    @abstractmethod
    async def contribute(self, request: CritiqueRequested) -> Sequence[Gradient]:
        """Up to `request.improvements` gradients; its own name becomes their author."""
