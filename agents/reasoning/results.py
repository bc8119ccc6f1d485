"""What the agents of every style answer: gradients, and proposals or the reasons against them."""

from __future__ import annotations

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.parts import RefusalCode
from bigpe.services.core.values import Instruction, LlmUsage, Value
from bigpe.services.llm.service import Turn


class WordedGradient(Value):
    """A gradient with the language model exchange that produced it."""

    inference: str
    improvement: str
    evidence: tuple[str, ...]
    composed: bool
    fault: AnswerFault | None = None
    """Why the last wording was not valid, if `composed`; None if none was requested."""
    dropped_citations: int = 0
    turns: tuple[Turn, ...] = ()
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


class Proposal(Value):
    """A new instruction."""

    instruction: Instruction
    composed: bool
    """True if the text is the computed one, not the wording of the model."""
    fault: AnswerFault | None = None
    """Why the last wording was not valid, if `composed`."""
    change: str = ""
    """What differs from the parent, in one line, where the model says it."""
    turns: tuple[Turn, ...] = ()
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


class Rejection(Value):
    """The reasons why no valid instruction follows from a gradient."""

    code: RefusalCode
    """"near-copy" when any candidate was one, else "invalid"."""
    reasons: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""
