"""What roles of other packages say, and what is asked of them. One form for all of them, so that a
plugin adds no kind of message."""

from __future__ import annotations

from typing import ClassVar, Literal

from bigpe.agents.messages.base import COORDINATOR, Message
from bigpe.agents.messages.failure_scope import FailureScope, ReviewLost
from bigpe.services.core.values import Json, LlmUsage, Value

Gateable = Literal["PromptsRewritten", "GradientsComputed", "InstructionsProposed"]
"""The answers that a gate may judge before the coordinator takes them."""
Verdict = Literal["keep", "veto", "amend"]


class GateRule(Value):
    """A gate of the plan."""

    name: str
    before: Gateable
    required: bool = False
    """Whether the run stops when the gate fails; else what it guards passes unjudged."""


class Judgement(Value):
    """The verdict of a gate on one item."""

    item: int
    """Index of the item, from 0."""
    verdict: Verdict
    text: str = ""
    """The new text, if the verdict is "amend"."""
    reason: str = ""
    """The reason, for people; it is stored in the transcript."""


class RolesChanged(Message):
    """Observers joined or left; to the coordinator, which counts what they use."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RolesChanged"] = "RolesChanged"
    observers: tuple[str, ...]
    """All that are there from now on."""


class RoleSaid(Message):
    """What a role had to say about a message, and what its language model used for it."""

    kind: Literal["RoleSaid"] = "RoleSaid"
    role: str
    about: str
    """The kind of the message; its id is the parent."""
    texts: tuple[str, ...] = ()
    usage: LlmUsage = LlmUsage()


class RoleReported(Message):
    """All that an observer used for a round; to the coordinator, which counts it."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RoleReported"] = "RoleReported"
    role: str
    usage: LlmUsage = LlmUsage()


class ReviewRequested(Message):
    """May this proceed? To the gate `role`; its answer is waited for."""

    kind: Literal["ReviewRequested"] = "ReviewRequested"
    role: str
    subject: Json
    """The message in question, as earlier gates left it."""

    def failure_scope(self) -> FailureScope:
        """The decision of the gate."""
        return ReviewLost()


class GateDecided(Message):
    """A gate's answer to a ReviewRequested, its parent."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["GateDecided"] = "GateDecided"
    role: str
    judgements: tuple[Judgement, ...] = ()
    usage: LlmUsage = LlmUsage()
