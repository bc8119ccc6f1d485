"""The messages from and to plugin actors. All plugins share them, so a plugin adds no kind."""

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
    """Whether the run stops if the gate fails. If not, the answer passes unjudged."""


class Judgement(Value):
    """A gate's verdict on one item. Items without a judgement are kept."""

    item: int
    """Index of the item in the reviewed answer, from 0."""
    verdict: Verdict
    text: str = ""
    """The new text, for the verdict "amend"."""
    reason: str = ""


class RolesChanged(Message):
    """Observers joined or left. The coordinator counts their usage."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RolesChanged"] = "RolesChanged"
    observers: tuple[str, ...]
    """All observers from now on."""


class RoleSaid(Message):
    """An observer's texts about a message, with the language model usage for them."""

    kind: Literal["RoleSaid"] = "RoleSaid"
    role: str
    about: str
    """The kind of that message; `parent` is its id."""
    texts: tuple[str, ...] = ()
    usage: LlmUsage = LlmUsage()


class RoleReported(Message):
    """The usage of an observer for a round. The coordinator counts it."""

    delivered_to: ClassVar[tuple[str, ...]] = (COORDINATOR,)
    kind: Literal["RoleReported"] = "RoleReported"
    role: str
    usage: LlmUsage = LlmUsage()


class ReviewRequested(Message):
    """Request to the gate `role` to judge an answer, which waits for the decision."""

    kind: Literal["ReviewRequested"] = "ReviewRequested"
    role: str
    subject: Json
    """The answer to judge, after the decisions of earlier gates."""

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
