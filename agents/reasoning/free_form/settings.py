"""What the agents of the free-form style are given besides the messages: constants of a run."""

from __future__ import annotations

from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.rules import (
    ANY_PAINTER,
    PACKAGED_TEMPLATES,
    OwnTemplates,
    PainterRules,
)
from bigpe.services.core.values import Value

MAX_INSTRUCTION_WORDS = 400
REQUEST_TOKENS = 6000


class FreeFormSettings(Value):
    """The constants of a run that agents read."""

    painter: str = "a text-to-image model of unknown kind. It gets the prompt as you write it."
    """What the renderer reads best, in words."""
    scorer: str = "a model of human preference. Higher is better."
    """What the scorer rates, in words."""
    language: str = "Keep the language of the prompt."
    """The rule about the language of a rewrite."""
    negative: bool = False
    """Whether rewrites have a negative prompt, which the painter takes."""
    painter_rules: PainterRules = ANY_PAINTER
    """What the painter asks of rewrites, as far as it is checked."""
    constraints: Constraints = NONE
    templates: OwnTemplates = PACKAGED_TEMPLATES
    """The texts of requests."""
    exemplars: int = 0
    """Won comparisons that a proposed instruction gets, at most."""
    max_instruction_words: int = MAX_INSTRUCTION_WORDS
    request_tokens: int = REQUEST_TOKENS
    """Budget of a request of the gradient calculator or the modifier, tokens (estimated)."""
