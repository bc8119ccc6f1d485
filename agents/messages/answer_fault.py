"""Why an answer of a language model cannot be used."""

from __future__ import annotations

from enum import StrEnum


class AnswerFault(StrEnum):
    """The class of an unusable answer. Reports count fallbacks and composed texts by it."""

    REFUSED = "refused"
    """The model or the filter of its server refused."""
    LENGTH = "length"
    """The answer was cut at the token limit, also at the largest limit."""
    ONLY_THOUGHT = "only thought"
    """The model thought until the token limit and answered nothing."""
    EMPTY = "empty"
    """The model answered with no text."""
    NO_PROMPT = "no prompt"
    """Nothing in the answer is surely a prompt, for example a question back."""
    SHAPE = "shape"
    """The answer has no JSON object of the requested shape."""
    PROTECTED = "protected"
    """Text that must survive letter for letter is lost."""
    CONSTRAINT = "constraint"
    """It breaks a rule of `[constraints]`."""
    TOO_LONG = "too long"
    """It has more words than the limit of its role."""
    UNCHANGED = "unchanged"
    """The rewrite is the naive prompt."""
    SUBJECT = "subject"
    """The rewrite of the embedded model lost the subject, or took that of an exemplar; or an
    instruction names the subject of a prompt that it saw."""
    INVALID = "invalid"
    """A gradient or an instruction breaks a rule of its role."""
    NEAR_COPY = "near-copy"
    """The instruction is one that the run has already."""
    GATE = "gate"
    """A gate refused the rewrite or the instruction."""
