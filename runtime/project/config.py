"""One `bigpe.toml`: each section is declared beside the code it configures, and composed here.

A mistake is reported with the line and the key that it is on; nothing is guessed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bigpe.agents.bandit.policies import PolicyConfig
from bigpe.agents.messages.usage import Limits, Prices
from bigpe.agents.plugins.config import RoleConfig
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import ConfigError
from bigpe.services.llm.service import LlmConfig
from bigpe.services.render.service import RenderConfig
from bigpe.services.score.service import ScoreSection
from bigpe.services.workers.config import WorkersConfig

ROLES_WITH_LLM = ("generator", "gradient", "modifier")
TAKEN = ("default", "session", "coordinator", *ROLES_WITH_LLM, "renderer", "scorer")
ROLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


class Section(BaseModel):
    """Base of the sections declared here."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunConfig(Section):
    """`[run]`: the loop."""

    rounds: Annotated[int, AfterStart.TAKES_EFFECT] = Field(default=12, ge=1, le=1_000_000)
    """Pulls of an arm; each is one round."""
    batch_size: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=5, ge=1, le=1000)
    """Naive prompts a round."""
    seeds_per_prompt: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=1, ge=1, le=100)
    """Pictures a prompt and round, each compared with the naive one of the same seed."""
    concurrency: Annotated[int, AfterStart.TAKES_EFFECT] = Field(default=2, ge=1, le=64)
    """Rounds in flight."""
    seed: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=0, ge=0, lt=2**63)
    """Decides everything random."""
    pool_size: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=4, ge=2, le=1000)
    """Instructions alive at a time."""
    pilot_prompts: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=5, ge=2, le=1000)
    """Naive prompts painted twice before round 1, to learn how noisy a gain is."""
    improvements: Annotated[int, AfterStart.NEEDS_FORK] = Field(default=1, ge=1, le=10)
    """Gradients, and so proposed instructions, a round."""
    patience: Annotated[int, AfterStart.TAKES_EFFECT] = Field(default=0, ge=0)
    """Number of rounds without a better best instruction after which the run stops; 0: never."""
    durability: Annotated[Literal["normal", "full"], AfterStart.CHANGES_NO_RESULT] = "normal"
    """"full" also survives a power cut, at a cost for every commit."""


class BudgetConfig(Section):
    """`[budget]`: what a run may use; 0 means no limit."""

    renders: int = Field(default=0, ge=0)
    """Different pictures: naive, rewritten and professional together."""
    scores: int = Field(default=0, ge=0)
    llm_calls: int = Field(default=0, ge=0)
    tokens: int = Field(default=0, ge=0)
    """Of the language models, prompts and answers together."""
    usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """By the prices of `[prices]`."""
    minutes: float = Field(default=0.0, ge=0.0)
    """Wall time of all processes that wrote the run; no new round starts after it."""

    @property
    def limits(self) -> Limits:
        """All but the minutes, which depend on the machine and so not on the run alone."""
        return Limits.model_validate(self.model_dump(exclude={"minutes"}))


class DataConfig(Section):
    """`[data]`: the prompts."""

    naive: str = "world"
    """"world" or "general" (packaged), or a file: txt, csv, jsonl or parquet."""
    column: str | None = None
    """Which column of the file holds the prompts; found by its name if not given."""
    seeds: str | None = None
    """A TOML file of your own seed instructions, in the form of `prompts/data/seeds.toml`."""
    professional: bool = True
    """Whether professional prompts join the contrast and help the Modifier."""


class BigpeConfig(Section):
    """The whole of `bigpe.toml`."""

    run: RunConfig = RunConfig()
    policy: Annotated[PolicyConfig, AfterStart.NEEDS_FORK] = PolicyConfig()
    budget: Annotated[BudgetConfig, AfterStart.TAKES_EFFECT] = BudgetConfig()
    prices: Annotated[Prices, AfterStart.TAKES_EFFECT] = Prices()
    data: Annotated[DataConfig, AfterStart.NEEDS_FORK] = DataConfig()
    llm: dict[str, LlmConfig] = Field(default_factory=lambda: {"default": LlmConfig()})
    """`[llm.default]`, and `[llm.generator]`, `[llm.gradient]`, `[llm.modifier]` to differ."""
    render: RenderConfig = RenderConfig()
    score: ScoreSection = ScoreSection()
    constraints: Annotated[Constraints, AfterStart.NEEDS_FORK] = Constraints()
    roles: dict[str, RoleConfig] = Field(default_factory=dict[str, RoleConfig])
    """`[roles.NAME]`: roles of other packages, and AgentChat agents."""
    workers: Annotated[WorkersConfig, AfterStart.IF_SAME_MODEL] = WorkersConfig()

    @model_validator(mode="after")
    def _known_roles(self) -> BigpeConfig:
        for name in self.roles:
            if name in TAKEN or not ROLE_NAME.fullmatch(name):
                raise ValueError(
                    f"[roles.{name}]: choose a name of letters, digits, '-' and '_' that is none "
                    f"of bigpe's own ({', '.join(TAKEN)})"
                )
        known = ("default", *ROLES_WITH_LLM, *self.roles)
        for name in self.llm:
            if name not in known:
                raise ValueError(f"[llm.{name}]: no such role; use one of {', '.join(known)}")
        return self

    def with_word_files(self, folder: Path) -> BigpeConfig:
        """The words of the files that `[constraints]` names, relative to `folder`, in their lists:
        a run keeps the words that it began with."""
        return self.model_copy(update={"constraints": self.constraints.with_files(folder)})

    def llm_for(self, role: str) -> LlmConfig:
        """The model of `role`: its own, else the default one."""
        return self.llm.get(role) or self.llm.get("default") or LlmConfig()


def load_config(path: Path) -> BigpeConfig:
    """Read and check the file; ConfigError names the line and the key of every mistake."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}; make one with `bigpe init`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return check_config(raw, where=str(path), text=text).with_word_files(path.parent)


def check_config(raw: dict[str, Any], *, where: str, text: str = "") -> BigpeConfig:
    """Validate a parsed configuration."""
    try:
        return BigpeConfig.model_validate(raw)
    except ValidationError as error:
        told = [_tell(where, text, dict(problem)) for problem in error.errors()]
        raise ConfigError("\n".join(told)) from error


def _tell(where: str, text: str, problem: dict[str, Any]) -> str:
    keys = [str(part) for part in problem["loc"] if part != "[key]"]
    line = find_line(text, keys)
    place = f"{where}, line {line}" if line else where
    name = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key {name!r}; `bigpe config check` lists the known ones"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {name}: {message}" if name else f"{place}: {message}"


def find_line(text: str, keys: list[str]) -> int | None:
    """The line (from 1) on which the TOML key path `keys` is set, or its table begins."""
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
