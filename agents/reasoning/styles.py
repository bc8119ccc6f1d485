"""The reasoning styles by name, and the one that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from bigpe.agents.messages.plan import EVIDENCE_WORDED, FREE_FORM
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.evidence_worded.style import EvidenceWorded
from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.free_form.style import FreeForm
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.rules import (
    AUTO,
    PACKAGED_TEMPLATES,
    STYLES,
    DecidesRules,
    ReasoningConfig,
    RewriteRules,
    Role,
    RoleRules,
    rewrite_rules,
    role_rules,
)
from bigpe.services.core import plugins
from bigpe.services.core.errors import ConfigError

LanguageModels = Callable[[Role], DecidesRules]
"""Returns the language model of a role."""
ROLES: tuple[Role, ...] = ("generator", "gradient", "modifier")


class StyleContext(NamedTuple):
    """What a style is made of. A package registers a callable that takes one."""

    options: Mapping[str, Any]
    """`[reasoning.options]`."""
    settings: FreeFormSettings
    """Painter, scorer, language and constraints, as texts and rules."""
    rewrites: RewriteRules
    """Limits of the generator. Rewrites must keep them."""
    gradients: RoleRules
    proposals: RoleRules
    """`most_calls` of each role's rules is what the budget reserves for one text."""

    @property
    def constraints(self) -> Constraints:
        """`[constraints]`. Rewrites and instructions must keep them."""
        return self.settings.constraints


def style_name(wanted: str, embedded: Collection[str]) -> str:
    """The name of the style that `[reasoning] style` stands for.

    Args:
        wanted: The setting. "auto" is evidence-worded if any role is embedded, else free-form.
        embedded: The roles whose language model is the embedded one.

    Raises:
        ConfigError: Free form is wanted of the embedded model, which cannot reason.
    """
    if wanted == AUTO:
        return EVIDENCE_WORDED if embedded else FREE_FORM
    if wanted == FREE_FORM and embedded:
        raise ConfigError(
            f'[reasoning] style = "free-form": the embedded language model ({", ".join(embedded)}) '
            "cannot follow such requests; set [llm.default] to a model that can reason, or "
            'style = "evidence-worded"'
        )
    return wanted


def make_style(
    name: str,
    config: ReasoningConfig,
    llm: LanguageModels,
    *,
    constraints: Constraints = NONE,
    settings: FreeFormSettings | None = None,
) -> ReasoningStyle:
    """The style of this name, with the limits of each role.

    Args:
        name: See `style_name`.
        config: The section `[reasoning]`.
        llm: The language model of each role; it decides about the limits.
        constraints: What rewrites and instructions must keep.
        settings: What agents of the free-form style are given; None: the defaults.

    Raises:
        ConfigError: `[reasoning] templates` names a folder that nobody has read, or the style of
            a package cannot be made.
    """
    rules = (
        role_rules("gradient", llm("gradient"), config),
        role_rules("modifier", llm("modifier"), config),
    )
    if name == EVIDENCE_WORDED:
        return EvidenceWorded(constraints, rewrite_rules(llm("generator"), config), *rules)
    own = config.templates or PACKAGED_TEMPLATES
    if isinstance(own, str):
        raise ConfigError(
            f"[reasoning] templates = {own!r}: the files are not read yet; "
            "load the configuration with `load_config`"
        )
    given = (settings or FreeFormSettings()).model_copy(
        update={"constraints": constraints, "templates": own, "exemplars": config.exemplars}
    )
    rewrites = rewrite_rules(llm("generator"), config, given.painter_rules, negative=given.negative)
    if name == FREE_FORM:
        return FreeForm(given, rewrites, *rules)
    return _of_package(name, StyleContext(config.options, given, rewrites, *rules))


def style_package(name: str) -> str:
    """The package of a style, with its version; "" for a built-in style."""
    return "" if name in STYLES else plugins.package_of("reasoning_styles", name)


def _of_package(name: str, context: StyleContext) -> ReasoningStyle:
    """The style that an installed package registers. ConfigError if it is none, or has no name."""
    made = plugins.make("reasoning_styles", name, context)
    if not isinstance(made, ReasoningStyle):
        raise ConfigError(
            f"{name!r} of bigpe.reasoning_styles makes a {type(made).__name__}, which lacks a "
            "method of `bigpe.agents.reasoning.interface.ReasoningStyle`"
        )
    if made.name != name:
        raise ConfigError(
            f"{name!r} of bigpe.reasoning_styles calls itself {made.name!r}; both names must agree"
        )
    return made
