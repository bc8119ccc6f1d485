"""The reasoning style of a run: how its agents rewrite, explain and propose.

Actors are thin: they take a message, ask the style, and answer. A style decides what a language
model sees and how its answers are read. Another package may add one (entry point group
`bigpe.reasoning_styles`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.core import CritiqueRequested, ProposalRequested
from bigpe.agents.messages.parts import Gradient, RefusalCode
from bigpe.agents.reasoning.asking import Exchanged
from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.services.core.values import Instruction
from bigpe.services.llm.service import LlmClient

Retrieve = Callable[[str, int], Awaitable[list[str]]]
"""Professional prompts for a text, best first; the second argument is the largest number."""


class WordedGradient(Gradient, Exchanged):
    """A gradient with the language model exchange that produced it."""

    @property
    def gradient(self) -> Gradient:
        """The gradient alone, as messages hold it."""
        return Gradient.model_validate(self.model_dump(include=set(Gradient.model_fields)))


class Proposal(Exchanged):
    """A new instruction."""

    instruction: Instruction
    composed: bool
    """True if the text is the computed one, not the wording of the model."""
    fault: AnswerFault | None = None
    """Why the last wording was not valid, if `composed`."""
    change: str = ""
    """What differs from the parent, in one line, where the model says it."""


class Rejection(Exchanged):
    """The reasons why no valid instruction follows from a gradient."""

    code: RefusalCode
    """"near-copy" when any candidate was one, else "invalid"."""
    reasons: tuple[str, ...]
    fault: AnswerFault | None = None
    """The class of the last reason."""


class Proposed(NamedTuple):
    """What came of one gradient."""

    gradient: Gradient
    outcome: Proposal | Rejection
    operator: str = ""
    """The operator that made it, for styles with operators."""


@runtime_checkable
class ReasoningStyle(Protocol):
    """How agents think. Its methods may be called at the same time.

    Failures of the language model's service propagate: they are retried, or recorded as missing.
    """

    @property
    def name(self) -> str:
        """The name in `[reasoning] style`."""
        ...

    def system_prompt(self, instruction: Instruction) -> str:
        """The instruction as a system prompt for any chat model, outside bigpe.

        The user's message is then a naive prompt, and the whole answer is the rewrite.
        """
        ...

    async def rewrite(
        self, llm: LlmClient, instruction: Instruction | None, naive: str, seed: int
    ) -> Rewrite:
        """A rewrite of `naive`, or a fallback with its reason."""
        ...

    async def explain(
        self, llm: LlmClient, request: CritiqueRequested, *, sees: bool
    ) -> Sequence[WordedGradient]:
        """The gradients of a batch. `sees`: whether the model accepts images."""
        ...

    async def propose(
        self, llm: LlmClient, request: ProposalRequested, retrieve: Retrieve
    ) -> Sequence[Proposed]:
        """An instruction, or the reasons why there is none, for each gradient of the request."""
        ...
