"""The reasoning style of a configuration, with what its agents are given about the models."""

from __future__ import annotations

from collections.abc import Callable

from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.rules import DecidesRules
from bigpe.agents.reasoning.styles import make_style
from bigpe.runtime.project.config import BigpeConfig


def style_of(config: BigpeConfig, llm: Callable[[str], DecidesRules]) -> ReasoningStyle:
    """The style of `config`. `llm` returns the language model of a role.

    Raises:
        ConfigError: The configured style does not suit the language model.
    """
    return make_style(
        config.reasoning, llm, constraints=config.constraints, settings=FreeFormSettings()
    )
