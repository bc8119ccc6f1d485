"""Plugin actors: observers, gates and contributors of other packages. See docs/roles.md.

A plugin actor is a class with one method. It runs in its own thread, so it may block, hang or fail
without damage to the run. Its answers are stored, and each message is given to it once. A plugin
actor that uses only its arguments needs no storage of its own and survives `kill -9`.
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
    """A plugin actor failed, took too long or returned too much text."""


@dataclass(frozen=True)
class RoleContext:
    """Everything that a plugin actor receives besides its messages."""

    name: str
    """Its NAME in `[roles.NAME]` and in the transcript."""
    options: Any
    """`[roles.NAME.options]`: an instance of the class's `Options`, or a dict without one."""
    llm: LlmClient
    """The model of `[llm.NAME]`, else the default one. Each call is paid once and counted."""
    sees: bool
    """Whether that model accepts images."""
    picture: Callable[[str], bytes]
    """Function from the digest of an image to the bytes of its PNG file."""


class PluginRole:
    """Base of the three kinds of plugin actor. bigpe makes one instance per run.

    Args:
        context: Kept as `self.context`.
    """

    Options: ClassVar[type[BaseModel] | None] = None
    """The pydantic model of `[roles.NAME.options]`."""

    def __init__(self, context: RoleContext) -> None:
        self.context = context


class Observer(PluginRole, ABC):
    """Reads messages and may comment on each. It does not change the run."""

    reads: ClassVar[tuple[str, ...]] = ()
    """The kinds of messages that it reads. `[roles.NAME] reads` replaces them."""

    @abstractmethod
    async def read(self, message: AnyMessage, last: str) -> str | Sequence[str] | None:
        """Read one message. Messages come one at a time, in the order of the transcript.

        Args:
            message: A message of one of the kinds in `reads`.
            last: Its latest text in this run, "" before the first.

        Returns:
            Texts for the transcript. None, "" and an empty list store nothing.
        """


class Gate(PluginRole, ABC):
    """Judges an answer before the coordinator uses it."""

    before: ClassVar[Gateable] = "InstructionsProposed"
    """The kind of answer that it judges."""

    @abstractmethod
    async def judge(self, message: AnyMessage, items: Sequence[str]) -> Sequence[Judgement]:
        """Judge the items of an answer.

        Args:
            message: The answer, as earlier gates left it.
            items: The texts of `message`: instructions, improvements or rewrites.

        Returns:
            Judgements of the items to veto or amend. Items without a judgement are kept.
        """


class Contributor(PluginRole, ABC):
    """Writes gradients that compete with those of the built-in gradient calculator."""

    @abstractmethod
    async def contribute(self, request: CritiqueRequested) -> Sequence[Gradient]:
        """Write gradients for one pull.

        Args:
            request: The comparisons of the pull, the evidence table and what was tried before.

        Returns:
            Up to `request.improvements` gradients; further ones are ignored. Their author becomes
            the name of the plugin actor.
        """
