"""What a role's requests ask with, and what its answers must keep.

There are two sets of rules. The embedded model has 135 million parameters: it gets few tokens, one
line, and its rewrites are checked word by word. Every other model gets room for thoughts and prose,
and is judged by what it must keep letter for letter. `embedded` of the language model decides.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bigpe.agents.messages.plan import EVIDENCE_WORDED, FREE_FORM
from bigpe.prompts.templates import FREE_FORM_ROLES, FreeFormRole, Template, own_template, template
from bigpe.services.core import plugins
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.values import Value

Role = Literal["generator", "gradient", "modifier"]
AUTO = "auto"
STYLES = {
    EVIDENCE_WORDED: "for small models: the evidence decides, the model words it",
    FREE_FORM: "for models that can reason: the model sees the whole batch",
}
"""The built-in styles with one-line descriptions."""


class RoleLimits(BaseModel):
    """`[reasoning.gradient]` and `[reasoning.modifier]`: limits of a role's requests.

    A setting of `[llm.NAME]` for the same thing has priority.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int | None = Field(default=None, ge=16, le=1_000_000)
    """Tokens of an answer with its thoughts, doubled up to 8 times if they do not suffice. The
    default is 2,048; 1,024 for the generator; four times as much for a model that thinks. The
    embedded model has 64 (generator), 120 (gradient) and 80 (modifier), which are never raised."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """Default: 0.7; for the embedded model 0.4 (gradient) and 0.3 (others)."""
    attempts: int | None = Field(default=None, ge=1, le=10)
    """Requests for one text until an answer can be used. Default: 3; for the embedded model 3
    (generator) and 2 (others)."""


class GeneratorLimits(RoleLimits):
    """`[reasoning.generator]`: the limits of `[reasoning.gradient]`, and one of rewrites."""

    max_words: int | None = Field(default=None, ge=1, le=10_000)
    """Words of a rewrite; two ideographs count as one word. Default: 60 for the embedded model and
    400 for others; in the free-form style about 1.5 times what the painter reads."""


class OwnTemplates(Value):
    """The content of the files in `[reasoning] templates`; None: the packaged template."""

    generator: str | None = None
    gradient: str | None = None
    modifier: str | None = None

    @model_validator(mode="after")
    def _check_each(self) -> OwnTemplates:
        for role in FREE_FORM_ROLES:
            try:
                self.of(role)
            except ValueError as error:  # also TOMLDecodeError
                raise ValueError(f"{role}.toml: {error}") from error
        return self

    @property
    def own_files(self) -> tuple[str, ...]:
        """Names of the files in use; other roles have the packaged template."""
        return tuple(f"{role}.toml" for role in FREE_FORM_ROLES if getattr(self, role) is not None)

    def __repr__(self) -> str:
        """The names of the files: a listing of settings shows no whole templates."""
        return f"OwnTemplates({', '.join(self.own_files)})"

    def of(self, role: FreeFormRole) -> Template:
        """The template of a role."""
        own: str | None = getattr(self, role)
        return template(f"free_form/{role}") if own is None else own_template(role, own)


PACKAGED_TEMPLATES = OwnTemplates()


class ReasoningConfig(BaseModel):
    """`[reasoning]`: how roles ask their language model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Annotated[str, AfterStart.NEEDS_FORK] = AUTO
    """How agents think. "evidence-worded": the evidence decides, the model words it; for small
    models. "free-form": the model sees the whole batch and reasons. "auto": evidence-worded for the
    embedded model, free-form for every other. Or a style of `bigpe reasoning-styles list`."""
    options: Annotated[dict[str, Any], AfterStart.NEEDS_FORK] = Field(
        default_factory=dict[str, Any]
    )
    """`[reasoning.options]`: the options of a style from another package."""
    exemplars: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=0, ge=0, le=3)
    """Won comparisons that a proposed instruction gets as exemplars, in the free-form style: the
    rewrites with the highest gains so far, each of another naive prompt."""
    protect: Annotated[tuple[str, ...], AfterStart.NEEDS_FORK] = ()
    """Names of embeddings and trigger words: a rewrite keeps, letter for letter, those that its
    naive prompt has. Not for the embedded model."""
    templates: Annotated[str | OwnTemplates | None, AfterStart.NEEDS_FORK] = None
    """Folder with request templates of your own for the free-form style: generator.toml,
    gradient.toml, modifier.toml (docs/reasoning.md). A missing file is the packaged one."""
    generator: Annotated[GeneratorLimits, AfterStart.NEEDS_FORK] = GeneratorLimits()
    gradient: Annotated[RoleLimits, AfterStart.NEEDS_FORK] = RoleLimits()
    modifier: Annotated[RoleLimits, AfterStart.NEEDS_FORK] = RoleLimits()

    @field_validator("style")
    @classmethod
    def _require_known_style(cls, name: str) -> str:
        return plugins.require_known("reasoning_styles", name, (AUTO, *STYLES))


class RoleRules(Value):
    """The limits of a role's requests, and how its answers are read."""

    role: Role
    embedded: bool
    """Whether the rules are those of the embedded model: answers are read strictly and never
    asked for with a larger limit."""
    max_tokens: int
    temperature: float
    attempts: int
    doublings: int
    """How often the limit of tokens is doubled."""

    @property
    def most_calls(self) -> int:
        """The largest number of calls for one text."""
        return self.attempts + self.doublings


class PainterRules(Value):
    """The rules of rewrites that follow from what the painter reads."""

    max_words: int | None = None
    """The default of `[reasoning.generator] max_words`; None: `MAX_WORDS`."""
    protect: tuple[str, ...] = ()
    """Words that stay as they are, besides `[reasoning] protect`."""
    json_object: bool = False
    """Whether a rewrite is a JSON object."""


class RewriteRules(RoleRules):
    """The rules of rewrites."""

    max_words: int
    protect: tuple[str, ...] = ()
    negative: bool = False
    """Whether a negative prompt of the answer is kept."""
    json_object: bool = False
    """Whether a rewrite is a JSON object."""


class DecidesRules(Protocol):
    """A language model whose rules are wanted."""

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded model."""
        ...

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        ...


class _Defaults(Value):
    max_tokens: int
    temperature: float
    attempts: int


_EMBEDDED: dict[Role, _Defaults] = {
    "generator": _Defaults(max_tokens=64, temperature=0.3, attempts=3),
    "gradient": _Defaults(max_tokens=120, temperature=0.4, attempts=2),
    "modifier": _Defaults(max_tokens=80, temperature=0.3, attempts=2),
}
_OTHERS: dict[Role, _Defaults] = {
    "generator": _Defaults(max_tokens=1024, temperature=0.7, attempts=3),
    "gradient": _Defaults(max_tokens=2048, temperature=0.7, attempts=3),
    "modifier": _Defaults(max_tokens=2048, temperature=0.7, attempts=3),
}
DOUBLINGS = 3
"""The limit of tokens grows to 8 times: thoughts often take several thousand."""
THINKING = 4
"""Factor of the limits for a model that thinks: so its first answer is whole more often."""
EMBEDDED_MAX_WORDS = 60
MAX_WORDS = 400
"""Enhancers of 2025 and 2026 write 60 to 300 words."""


NO_SETTINGS = ReasoningConfig()
ANY_PAINTER = PainterRules()


def role_rules(role: Role, llm: DecidesRules, config: ReasoningConfig) -> RoleRules:
    """The rules of a role with this model and these settings."""
    limits = {"generator": config.generator, "gradient": config.gradient}
    return RoleRules.model_validate(_common(role, llm, limits.get(role, config.modifier)))


def rewrite_rules(
    llm: DecidesRules,
    config: ReasoningConfig,
    painter: PainterRules = ANY_PAINTER,
    *,
    negative: bool = False,
) -> RewriteRules:
    """The rules of rewrites with this model, these settings and this painter.

    `negative`: whether negative prompts are kept.
    """
    own = config.generator
    common = _common("generator", llm, own)
    if llm.embedded:
        most = own.max_words or EMBEDDED_MAX_WORDS
        return RewriteRules.model_validate({**common, "max_words": most})
    most = own.max_words or painter.max_words or MAX_WORDS
    protect = tuple(dict.fromkeys((*config.protect, *painter.protect)))
    return RewriteRules.model_validate(
        {
            **common,
            "max_words": most,
            "protect": protect,
            "negative": negative,
            "json_object": painter.json_object,
        }
    )


def _common(role: Role, llm: DecidesRules, own: RoleLimits) -> dict[str, object]:
    embedded = llm.embedded
    usual = (_EMBEDDED if embedded else _OTHERS)[role].model_dump()
    usual["max_tokens"] *= THINKING if llm.thinks and not embedded else 1
    given = own.model_dump(include={"max_tokens", "temperature", "attempts"}, exclude_none=True)
    doublings = 0 if embedded else DOUBLINGS
    fixed = {"role": role, "embedded": embedded, "doublings": doublings}
    return {**fixed, **usual, **given}


class _Embedded:
    embedded = True
    thinks = False


EMBEDDED_REWRITES = rewrite_rules(_Embedded(), NO_SETTINGS)
EMBEDDED_GRADIENTS = role_rules("gradient", _Embedded(), NO_SETTINGS)
EMBEDDED_PROPOSALS = role_rules("modifier", _Embedded(), NO_SETTINGS)
