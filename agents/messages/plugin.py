"""The messages of plugin actors. All plugins share them, so a plugin adds no kind of message."""

from __future__ import annotations

from typing import ClassVar, Literal

from bigpe.agents.messages.base import COORDINATOR, Message
from bigpe.agents.messages.failure_scope import FailureScope, ReviewLost
from bigpe.services.core.values import Json, LlmUsage, Value

Gateable = Literal["PromptsRewritten", "GradientsComputed", "InstructionsProposed"]
"""The answers that a gate may judge before they reach the decisions of the coordinator."""
Verdict = Literal["keep", "veto", "amend"]


class GateRule(Value):
    """A gate of the plan."""

    name: str
    before: Gateable
    required: bool = False
    """Whether a failure of the gate stops the run. Otherwise the answer passes unjudged."""


class Judgement(Value):
    """The verdict of a gate on one item. Items without a verdict are kept."""

    item: int
    """Index of the item, from 0."""
    verdict: Verdict
    text: str = ""
    """The new text, if the verdict is "amend"."""
    reason: str = ""
    """The reason, for people; it is stored in the transcript."""


class RolesChanged(Message):
    """Observers joined or left. The coordinator counts their usage."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RolesChanged"] = "RolesChanged"
    observers: tuple[str, ...]
    """All observers from now on."""


class RoleSaid(Message):
    """The texts of a plugin about a message, and the language model usage for them."""

    kind: Literal["RoleSaid"] = "RoleSaid"
    role: str
    about: str
    """The kind of the message. Its id is the parent."""
    texts: tuple[str, ...] = ()
    usage: LlmUsage = LlmUsage()


class RoleReported(Message):
    """The usage of an observer for a round."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RoleReported"] = "RoleReported"
    role: str
    usage: LlmUsage = LlmUsage()


class ReviewRequested(Message):
    """Request to the gate `role` to judge an answer, which waits for the decision."""

    lost: ClassVar[FailureScope] = ReviewLost()
    kind: Literal["ReviewRequested"] = "ReviewRequested"
    role: str
    subject: Json
    """The judged answer, as earlier gates left it."""


class GateDecided(Message):
    """The decision of a gate on a ReviewRequested, its parent."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["GateDecided"] = "GateDecided"
    role: str
    judgements: tuple[Judgement, ...] = ()
    usage: LlmUsage = LlmUsage()
