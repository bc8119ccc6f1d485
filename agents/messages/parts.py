"""The values that messages of the core actors are made of."""

from __future__ import annotations

from typing import Literal

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.messages.plan import BUILT_IN_AUTHOR
from bigpe.services.core.values import Instruction, NegativePrompt, Value

RefusalCode = Literal["near-copy", "invalid", "vetoed"]
"""Why a proposal is refused: it resembles a living instruction, breaks a rule, or has a veto."""


class RewriteTask(Value):
    """A naive prompt to rewrite, with its seeds."""

    naive: str
    image_seed: int
    llm_seed: int


class Rewritten(Value):
    """The result of a RewriteTask."""

    naive: str
    image_seed: int
    text: str
    """The rewritten prompt; the naive prompt if `fallback` gives a reason."""
    fallback: str | None = None
    fault: AnswerFault | None = None
    """The class of `fallback`."""
    attempts: int = 1
    negative: str = ""
    """The negative prompt, where the painter takes one."""
    notes: tuple[str, ...] = ()
    """What was taken off the answer or put back, for people."""


class PairedGain(Value):
    """A paired comparison: one naive prompt and seed, rendered with and without the rewrite."""

    naive: str
    rewrite: str
    seed: int
    naive_score: float
    score: float
    gain: float
    """score - naive_score; exactly 0 for a fallback."""
    fallback: str | None = None
    fault: AnswerFault | None = None
    """The class of `fallback`."""
    naive_image: str
    image: str
    truncated: int = 0
    """Number of tokens of the rewrite that the renderer cut off."""
    negative: NegativePrompt = ""
    """The negative prompt of the rewrite."""


class Gradient(Value):
    """A textual gradient: what made the difference, what to change, and the evidence for it."""

    inference: str
    improvement: str
    evidence: tuple[str, ...]
    """Ids of the evidence rows that the improvement cites validly."""
    composed: bool
    """True if no wording of the LLM was valid and the computed sentence is used."""
    fault: AnswerFault | None = None
    """Why the last wording was not valid; None for a valid one, and if none was requested."""
    dropped_citations: int = 0
    adds: tuple[str, ...] = ()
    """Words that rewrites shall have, as the improvement names them. Only free-form styles say."""
    avoids: tuple[str, ...] = ()
    """Words that rewrites shall not have."""
    author: str = BUILT_IN_AUTHOR


class ProposedInstruction(Value):
    """An instruction that follows a gradient."""

    instruction: Instruction
    improvement: str
    composed: bool
    fault: AnswerFault | None = None
    """Why the last wording was not valid, if `composed`."""
    author: str = BUILT_IN_AUTHOR
    """The author of the gradient."""
    operator: str = ""
    """How it was made, for styles that choose among operators."""
    change: str = ""
    """What differs from its parent, in one line of the modifier; else the improvement says it."""


class RefusedProposal(Value):
    """A gradient without a valid instruction, and the reasons."""

    improvement: str
    code: RefusalCode
    reasons: tuple[str, ...]
    """The reasons for people, one for each candidate."""
    fault: AnswerFault | None = None
    """The class of the last reason."""


class RetiredArm(Value):
    """An arm that left the pool, and the reason."""

    instruction: str
    reason: str
