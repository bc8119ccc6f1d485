"""The reasoning style of a configuration: what its agents are given, and how its runs search."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bigpe.agents.bandit.policies import AUTO, PolicyConfig
from bigpe.agents.messages.plan import EVIDENCE_WORDED, FREE_FORM, Batches, SeedInstruction
from bigpe.agents.reasoning.evidence_worded.clause_plan import MAX_BASE_WORDS, keeps_base
from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.rules import STYLES, DecidesRules, PainterRules
from bigpe.agents.reasoning.styles import ROLES, make_style, style_name
from bigpe.runtime.project.concurrency import LEAST, RoundsInFlight, rounds_in_flight
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.project.seed_files import seeds_for
from bigpe.services.core.errors import ConfigError
from bigpe.services.llm.service import EMBEDDED
from bigpe.services.render.prompt_profile import PromptProfile, profile_of
from bigpe.services.score.description import described_scorer

NOT_EVIDENCE_WORDED = ("max_tokens", "max_words", "negative", "language", "triggers")
"""Settings of `[render.prompt]` that agents of the evidence-worded style do not read."""


@dataclass(frozen=True)
class UncalledLlm:
    """A language model that is not called, for a style of which only texts are wanted."""

    embedded: bool = False
    thinks: bool = False


def style_of(config: BigpeConfig, llm: Callable[[str], DecidesRules]) -> ReasoningStyle:
    """The style of `config`. `llm` returns the language model of a role.

    Raises:
        ConfigError: The configured style does not suit the language model, or a setting of
            `[render.prompt]` or `[reasoning]` has no effect in it.
    """
    return make_style(
        style_of_config(config),
        config.reasoning,
        llm,
        constraints=config.constraints,
        settings=_settings(config, profile_of(config.render)),
    )


def style_of_config(config: BigpeConfig) -> str:
    """The name of the style of `config`. Raises ConfigError as `style_of` does."""
    embedded = [role for role in ROLES if config.llm_for(role).provider == EMBEDDED]
    name = style_name(config.reasoning.style, embedded)
    own, usual = config.render.prompt, type(config.render.prompt)()
    changed = [key for key in NOT_EVIDENCE_WORDED if getattr(own, key) != getattr(usual, key)]
    idle = [f"[render.prompt] {', '.join(changed)}"] if changed else []
    idle += ["[[render.lora]] triggers"] if any(a.triggers for a in config.render.lora) else []
    idle = idle if name == EVIDENCE_WORDED else []
    if config.reasoning.templates is not None and name != FREE_FORM:
        idle.append("[reasoning] templates")
    if config.reasoning.exemplars and name != FREE_FORM:
        idle.append("[reasoning] exemplars")
    if idle:
        raise ConfigError(
            f"{' and '.join(idle)}: without effect in the style {name!r}; take it out, or use a "
            "language model that can reason ([llm.default]) and the free-form style"
        )
    if config.reasoning.options and name in STYLES:
        raise ConfigError(
            f"[reasoning.options]: without effect in the style {name!r}; take it out, or name the "
            "style of a package (`bigpe reasoning-styles list`)"
        )
    return name


def checked_seeds(config: BigpeConfig, project: Path) -> list[SeedInstruction]:
    """The seed instructions of `config`, none of which its style would shorten in children.

    Raises:
        ConfigError: As `seeds_for` and `style_of_config` do; or the style is evidence-worded, and
            a text before the first clause is longer than what its children keep.
    """
    style, seeds = style_of_config(config), seeds_for(config, project)
    cut = [seed for seed in seeds if not keeps_base(seed.instruction)]
    if style == EVIDENCE_WORDED and cut:
        raise ConfigError(
            f"[data] seeds: the style {style!r} keeps {MAX_BASE_WORDS} words of an instruction in "
            f"its children, and {cut[0].name!r} has {len(cut[0].instruction.text.split())}; "
            "shorten it, or use a language model that can reason ([llm.default]), whose style "
            "keeps instructions whole"
        )
    return seeds


def language_note(style: str, prompts: Sequence[str]) -> str:
    """A warning if the style was not made for the language of many prompts; else ""."""
    foreign = [prompt for prompt in prompts if any(map(_is_not_latin, prompt))]
    if style != EVIDENCE_WORDED or len(foreign) * 10 < len(prompts):
        return ""
    return (
        f"{len(foreign)} of {len(prompts)} prompts are in a script other than Latin, and the style "
        f"{style!r} was made for English; use a language model that can reason ([llm.default])"
    )


def _is_not_latin(letter: str) -> bool:
    return letter.isalpha() and not unicodedata.name(letter, "LATIN").startswith("LATIN")


def _settings(config: BigpeConfig, profile: PromptProfile) -> FreeFormSettings:
    return FreeFormSettings(
        painter=profile.described(),
        scorer=described_scorer(config.score),
        language=profile.language_rule,
        negative=profile.negative,
        painter_rules=PainterRules(
            max_words=profile.most_words,
            protect=profile.triggers,
            json_object=profile.form == "json",
        ),
    )


class SearchSettings(NamedTuple):
    """How a run searches."""

    policy: PolicyConfig
    batches: Batches
    proposals: int
    """Proposals per gradient."""
    in_flight: RoundsInFlight = RoundsInFlight(LEAST, "as usual")

    @property
    def as_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        in_flight = self.in_flight._asdict()
        return {**self._asdict(), "policy": self.policy.name, "in_flight": in_flight}

    @property
    def text(self) -> str:
        """The settings for people."""
        several = "s" if self.proposals > 1 else ""
        each = f"{self.proposals} proposal{several} per gradient"
        search = f"policy {self.policy.name}, {self.batches} batches, {each}"
        return f"{search}, {self.in_flight}"


def search_settings(config: BigpeConfig, style: str, train: int) -> SearchSettings:
    """The settings of a run with `train` train prompts.

    The preferences of the styles are those of docs/reasoning.md.

    Raises:
        ConfigError: A setting has no effect: fresh batches of all train prompts, or several
            proposals in a style that writes one instruction per gradient.
    """
    usual, policy, whole = _usual(style), config.policy, train <= config.run.batch_size
    if config.data.batches == "fresh" and whole:
        raise ConfigError(
            f'[data] batches = "fresh": a batch of {config.run.batch_size} takes all {train} '
            "train prompts in each round; lower [run] batch_size, or add naive prompts"
        )
    if style == EVIDENCE_WORDED and (config.run.proposals or 1) > 1:
        raise ConfigError(
            f"[run] proposals = {config.run.proposals}: without effect in the style {style!r}, "
            "which writes one instruction per gradient; take it out, or set [run] improvements"
        )
    if policy.name == AUTO:
        policy = policy.model_copy(update={"name": usual.policy.name})
    batches = config.data.batches
    if batches == "auto":
        batches = "shared" if whole else usual.batches
    proposals = config.run.proposals or usual.proposals
    return SearchSettings(policy, batches, proposals, rounds_in_flight(config, style, proposals))


def as_automatic(config: BigpeConfig, style: str) -> BigpeConfig:
    """The configuration with "auto" for what it sets as its style prefers.

    So two configurations are equal if their runs are.
    """
    usual, changes = _usual(style), dict[str, object]()
    if config.policy.name == usual.policy.name:
        changes["policy"] = config.policy.model_copy(update={"name": AUTO})
    if config.data.batches == usual.batches:
        changes["data"] = config.data.model_copy(update={"batches": "auto"})
    if config.run.proposals == usual.proposals:
        changes["run"] = config.run.model_copy(update={"proposals": None})
    return config.model_copy(update=changes)


def _usual(style: str) -> SearchSettings:
    if style == EVIDENCE_WORDED:
        return SearchSettings(PolicyConfig(name="ucb1"), "shared", 1)
    return SearchSettings(PolicyConfig(name="lineage"), "fresh", 2 if style == FREE_FORM else 1)
