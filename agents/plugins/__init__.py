"""The API of plugin actors: observers, gates and contributors. See docs/roles.md.

A plugin actor is a class with one method. It runs in its own thread, so it may block, hang or fail
without harm to the run. It gets each message once, and its results are stored. A plugin that uses
only its arguments needs no storage and survives `kill -9`.
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
    """A plugin actor failed, exceeded its time or returned too much text."""


@dataclass(frozen=True)
class RoleContext:
    """The inputs of a plugin actor."""

    name: str
    """Its NAME in `[roles.NAME]` and in the transcript."""
    options: Any
    """`[roles.NAME.options]`: an instance of the class's `Options`, or a dict without one."""
    llm: LlmClient
    """The model of `[llm.NAME]`, else the default model. Each call is paid once and counted."""
    sees: bool
    """Whether that model accepts images."""
    picture: Callable[[str], bytes]
    """Returns the PNG file of an image, by its digest."""


class PluginRole:
    """Base of observers, gates and contributors."""

    Options: ClassVar[type[BaseModel] | None] = None
    """The pydantic model of `[roles.NAME.options]`; None: a plain dict."""

    def __init__(self, context: RoleContext) -> None:
        self.context = context


class Observer(PluginRole, ABC):
    """Reads messages and may comment on each. It has no effect on the run."""

    reads: ClassVar[tuple[str, ...]] = ()
    """The kinds of messages that it reads. `[roles.NAME] reads` overrides them."""

    @abstractmethod
    async def read(self, message: AnyMessage, last: str) -> str | Sequence[str] | None:
        """Comment on a message. Messages come one at a time, in transcript order.

        Args:
            message: The message.
            last: The observer's previous text; "" before the first.

        Returns:
            Text or texts for the transcript; None for no comment.
        """


class Gate(PluginRole, ABC):
    """Judges an answer before the coordinator uses it."""

    before: ClassVar[Gateable] = "InstructionsProposed"
    """The kind of answer that it judges."""

    @abstractmethod
    async def judge(self, message: AnyMessage, items: Sequence[str]) -> Sequence[Judgement]:
        """Judge an answer.

        Args:
            message: The answer.
            items: The texts of `message`: instructions, improvements or rewrites.

        Returns:
            Judgements of the items to veto or amend. All other items are kept.
        """


class Contributor(PluginRole, ABC):
    """Writes gradients in addition to those of the gradient calculator."""

    @abstractmethod
    async def contribute(self, request: CritiqueRequested) -> Sequence[Gradient]:
        """Write up to `request.improvements` gradients. Their author becomes this actor's name."""
