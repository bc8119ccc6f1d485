"""The reasoning style of a configuration, with what its agents are given about the models."""

from __future__ import annotations

from collections.abc import Callable

from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.rules import DecidesRules
from bigpe.agents.reasoning.styles import ROLES, make_style, style_name
from bigpe.runtime.project.config import BigpeConfig
from bigpe.services.llm.service import EMBEDDED


def style_of(config: BigpeConfig, llm: Callable[[str], DecidesRules]) -> ReasoningStyle:
    """The style of `config`. `llm` returns the language model of a role.

    Raises:
        ConfigError: The configured style does not suit the language model.
    """
    embedded = [role for role in ROLES if config.llm_for(role).provider == EMBEDDED]
    return make_style(
        style_name(config.reasoning.style, embedded),
        config.reasoning,
        llm,
        constraints=config.constraints,
        settings=FreeFormSettings(),
    )
