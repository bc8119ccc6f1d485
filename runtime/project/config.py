"""The model of `bigpe.toml`. Most sections are declared beside the code that they configure.

An error names the line and the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from bigpe.agents.bandit.policies import PolicyConfig
from bigpe.agents.messages.usage import Limits, LlmPrice
from bigpe.agents.plugins.config import RoleConfig
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.rules import ReasoningConfig
from bigpe.runtime.project.template_files import with_templates
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.outages.watch import OutageRule
from bigpe.services.core.values import Value
from bigpe.services.llm.config import LlmConfig, did_you_mean
from bigpe.services.render.config import RenderConfig
from bigpe.services.score.service import ScoreSection
from bigpe.services.workers.config import WorkersConfig

ROLES_WITH_LLM = ("generator", "gradient", "modifier")
TAKEN = ("default", "session", "coordinator", *ROLES_WITH_LLM, "renderer", "scorer")
AUTO = "auto"
MOST_IN_FLIGHT = 64
"""Rounds in flight at most."""
ROLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


class RunConfig(Value):
    """`[run]`: size and pace of a run."""

    rounds: Annotated[int, AfterStart.TAKES_EFFECT] = Field(default=12, ge=1, le=1_000_000)
    """Pulls of an arm; each is one round."""
    batch_size: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=5, ge=1, le=1000)
    """Naive prompts per round."""
    seeds_per_prompt: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=1, ge=1, le=100)
    """Images per prompt and round; each is compared with the naive image of the same seed."""
    concurrency: Annotated[int | Literal["auto"], AfterStart.TAKES_EFFECT] = 2
    """Rounds in flight, 1 to 64. "auto": by the requests at a time that the language models allow,
    and by the number of rounds (docs/scaling.md); a run keeps the number that it starts with."""
    seed: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=0, ge=0, lt=2**63)
    """Seed of all random numbers."""
    pool_size: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=4, ge=2, le=1000)
    """Active instructions in the pool."""
    pilot_prompts: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=5, ge=2, le=1000)
    """Naive prompts that are rendered twice before round 1, to estimate sigma."""
    improvements: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=1, ge=1, le=10)
    """Gradients per round; each leads to `proposals` proposed instructions."""
    proposals: Annotated[int | None, AfterStart.NEEDS_FORK] = Field(default=None, ge=1, le=4)
    """Instructions proposed per gradient, by different operators; default: 2 in the free-form
    style, else 1."""
    patience: Annotated[int, AfterStart.TAKES_EFFECT] = Field(default=0, ge=0)
    """Number of rounds without a better best instruction after which the run stops; 0: never."""
    outage_minutes: Annotated[float, AfterStart.CHANGES_NO_RESULT] = Field(
        default=10.0, ge=0.0, le=1_000_000
    )
    """Longest wait for a service that answers no call; then the run pauses. 0: no wait, and a call
    that fails four times is missing."""
    durability: Annotated[Literal["normal", "full"], AfterStart.CHANGES_NO_RESULT] = "normal"
    """"full" also survives a power cut; each commit takes longer."""

    @field_validator("concurrency", mode="before")
    @classmethod
    def _check_concurrency(cls, value: Any) -> Any:
        if value == AUTO or (type(value) is int and 1 <= value <= MOST_IN_FLIGHT):
            return value
        raise ValueError(f"write a number of rounds from 1 to {MOST_IN_FLIGHT}, or {AUTO!r}")

    @property
    def outages(self) -> OutageRule:
        """How long services are waited for."""
        return OutageRule(limit_s=60.0 * self.outage_minutes)


class BudgetConfig(Limits):
    """`[budget]`: limits of a run's usage; 0 means no limit."""

    minutes: float = Field(default=0.0, ge=0.0)
    """Wall time of all processes that wrote the run; no new round starts after it."""

    @property
    def limits(self) -> Limits:
        """All limits except `minutes`, which depends on the machine."""
        return Limits.model_validate(self.model_dump(exclude={"minutes"}))


class PriceConfig(Value):
    """`[prices]`: your own prices. Without them the list of genai-prices holds for language models.

    `bigpe costs` shows the price of each model, and where it comes from.
    """

    llm: dict[str, LlmPrice] = Field(default_factory=dict[str, LlmPrice])
    """By role; "default" is the price of `[llm.default]`."""
    render: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """USD per image; None: free if the renderer is your own, else not known."""
    score: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """USD per score; None: free if the scorer is your own, else not known."""

    @model_validator(mode="after")
    def _check_complete(self) -> PriceConfig:
        for name, price in self.llm.items():
            if not {"prompt", "completion"} <= price.model_fields_set:
                raise ValueError(f"[prices.llm.{name}]: set both prompt and completion; 0 if free")
        return self


class DataConfig(Value):
    """`[data]`: the prompts."""

    naive: str = "world"
    """"world" or "general" (packaged), or a file or folder of prompts (docs/prompt-files.md)."""
    column: str | None = None
    """The column with the prompts, for formats with columns; default: found by its name."""
    seeds: str | None = None
    """A TOML file of seed instructions, or a text file that is one whole (docs/seeds.md)."""
    professional: bool | str = True
    """Professional prompts, which gradients compare with and the modifier uses.

    "auto" (or true) takes those of the painter: "world" for the embedded one, else "prose" or
    "tags" by its form, or "general" (both) if that is not known. A file of prompts takes the place
    of the packaged ones; false: none. What `bigpe prompts import` added joins any but false.
    """

    batches: Literal["auto", "shared", "fresh"] = "auto"
    """The prompts of a round: "shared" gives each instruction the same ones first; "fresh" changes
    half of them from round to round. "auto": shared in the evidence-worded style, else fresh."""

    @field_validator("professional")
    @classmethod
    def _read_auto(cls, value: bool | str) -> bool | str:
        return True if value == "auto" else value


class BigpeConfig(Value):
    """All sections of `bigpe.toml`."""

    run: RunConfig = RunConfig()
    policy: Annotated[PolicyConfig, AfterStart.NEEDS_FORK] = PolicyConfig()
    budget: Annotated[BudgetConfig, AfterStart.TAKES_EFFECT] = BudgetConfig()
    prices: Annotated[PriceConfig, AfterStart.TAKES_EFFECT] = PriceConfig()
    data: Annotated[DataConfig, AfterStart.NEEDS_FORK] = DataConfig()
    llm: dict[str, LlmConfig] = Field(default_factory=lambda: {"default": LlmConfig()})
    """`[llm.default]`, and `[llm.generator]`, `[llm.gradient]`, `[llm.modifier]` that differ."""
    render: RenderConfig = RenderConfig()
    score: ScoreSection = ScoreSection()
    reasoning: Annotated[ReasoningConfig, AfterStart.NEEDS_FORK] = ReasoningConfig()
    constraints: Annotated[Constraints, AfterStart.NEEDS_FORK] = Constraints()
    roles: dict[str, RoleConfig] = Field(default_factory=dict[str, RoleConfig])
    """`[roles.NAME]`: roles of other packages, and AgentChat agents."""
    workers: Annotated[WorkersConfig, AfterStart.IF_SAME_MODEL] = WorkersConfig()

    @model_validator(mode="after")
    def _check_role_names(self) -> BigpeConfig:
        for name in self.roles:
            if name in TAKEN or not ROLE_NAME.fullmatch(name):
                raise ValueError(
                    f"[roles.{name}]: choose a name of letters, digits, '-' and '_' that is none "
                    f"of bigpe's own ({', '.join(TAKEN)})"
                )
        names = ("default", *ROLES_WITH_LLM, *self.roles)
        for name in self.llm:
            if name not in names:
                raise ValueError(f"[llm.{name}]: no such role; use one of {', '.join(names)}")
        for name in self.prices.llm:
            if name not in names:
                raise ValueError(
                    f"[prices.llm.{name}]: no such role; use one of {', '.join(names)}"
                )
        return self

    def with_files(self, folder: Path) -> BigpeConfig:
        """Add the content of the files that `[constraints]` and `[reasoning]` name.

        Their paths are relative to `folder`. So a run keeps its words if a file changes.
        """
        return self.model_copy(
            update={
                "constraints": self.constraints.with_files(folder),
                "reasoning": with_templates(self.reasoning, folder),
            }
        )

    @property
    def roles_with_llm(self) -> tuple[str, ...]:
        """The built-in roles that ask a language model, and plugin actors with one of their own."""
        return (*ROLES_WITH_LLM, *(name for name in self.roles if name in self.llm))

    def llm_for(self, role: str) -> LlmConfig:
        """The model of `role`: its own, else the default."""
        return self.llm.get(role) or self.llm.get("default") or LlmConfig()


def load_config(path: Path) -> BigpeConfig:
    """Read and check the file. ConfigError names the line and the key of each fault."""
    try:
        text = path.read_text("utf-8-sig")  # editors of Windows write a byte order mark
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}; make it with `bigpe init`") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return check_config(raw, where=str(path), text=text).with_files(path.parent)


def config_given_to(config: BigpeConfig | Mapping[str, Any] | None, folder: Path) -> BigpeConfig:
    """A caller's configuration, with the content of its files in `folder`. ConfigError if wrong."""
    if not isinstance(config, BigpeConfig):
        config = check_config(dict(config or {}), where="the configuration given to Session.open")
    return config.with_files(folder)


def check_config(raw: dict[str, Any], *, where: str, text: str = "") -> BigpeConfig:
    """Validate a parsed configuration; `text` is its source, for line numbers."""
    try:
        return BigpeConfig.model_validate(raw)
    except ValidationError as error:
        lines = (_problem_line(where, text, dict(problem)) for problem in error.errors())
        raise ConfigError("\n".join(lines)) from error


def _problem_line(where: str, text: str, problem: dict[str, Any]) -> str:
    keys = [str(part) for part in problem["loc"] if part != "[key]"]
    line = find_line(text, keys)
    place = f"{where}, line {line}" if line else where
    name = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        near = did_you_mean(keys[-1], _keys_beside(keys))
        return f"{place}: unknown key {name!r}{near}; `bigpe config check` lists all keys"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {name}: {message}" if name else f"{place}: {message}"


def _keys_beside(keys: list[str]) -> list[str]:
    """The keys that the section of an unknown key has."""
    section: type[BaseModel] | None = BigpeConfig
    for depth, name in enumerate(keys[:-1]):
        field = section.model_fields.get(name) if section else None
        if field is not None:
            section = section_in(field.annotation)
        elif depth == 0:  # a name below a table of sections, as in [llm.NAME], changes nothing
            return []
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds; None for a list, which is a single setting."""
    parts = () if get_origin(annotation) is tuple else get_args(annotation)
    types = (part for part in (annotation, *parts) if isinstance(part, type))
    return next((part for part in types if issubclass(part, BaseModel)), None)


def find_line(text: str, keys: list[str]) -> int | None:
    """The line number (from 1) that sets the TOML key path `keys`, or starts its table."""
    table: list[str] = []
    found: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if header := re.fullmatch(r"\[+\s*([^\]]+?)\s*\]+\s*(#.*)?", stripped):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            if table == keys[: len(table)] and found is None:
                found = number
        elif entry := re.match(r"([\w\-\"'. ]+?)\s*=", stripped):
            path = table + [part.strip().strip("\"'") for part in entry[1].split(".")]
            if path == keys[: len(path)]:
                return number
    return found
