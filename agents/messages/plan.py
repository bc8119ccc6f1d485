"""What a run was asked to do: all inputs of its decisions, in one frozen value that its first
message carries.
"""

from __future__ import annotations

from pydantic import Field

from bigpe.agents.messages import plugin as roles
from bigpe.agents.messages.usage import Limits, Prices
from bigpe.services.core.values import Instruction, Json, Value

RULES = 3
"""Number of the decision rules of the loop. Raise it whenever the loop would decide otherwise:
experiments compare cells of the same rules only. Rules 1 and 2 were never released
(docs/decisions/0020, 0025)."""
BUILT_IN_AUTHOR = "gradient"
"""The gradient calculator's name among the authors of gradients."""


class SeedInstruction(Value):
    """An instruction that the pool starts with, and the name that people see."""

    name: str
    instruction: Instruction


class CampaignPlan(Value):
    """All inputs of a run's decisions, frozen when it starts, so that resuming needs no files."""

    rounds: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Naive prompts a pull."""
    seeds_per_prompt: int = Field(ge=1)
    """Pictures a prompt and pull."""
    concurrency: int = Field(ge=1)
    """Pulls in flight, at most."""
    seed: int
    policy: Json
    pool_size: int = Field(ge=2)
    pilot_prompts: int = Field(ge=2)
    """Prompts painted twice before the first pull, to learn the noise of a gain."""
    patience: int = Field(ge=0)
    """Number of rounds without a better best instruction after which the run stops; 0: never."""
    limits: Limits = Limits()
    prices: Prices = Prices()
    improvements: int = Field(ge=1)
    """Gradients a round."""
    train: tuple[str, ...] = Field(min_length=1)
    """Naive prompts that pulls draw from; never validation or test prompts."""
    professional: dict[str, str]
    """For naive prompts that have one: the professional prompt of the same subject."""
    instructions: tuple[SeedInstruction, ...] = Field(min_length=2)
    gates: tuple[roles.GateRule, ...] = ()
    contributors: tuple[str, ...] = ()
    """Further authors of gradients."""
    observers: tuple[str, ...] = ()
    rules: int = Field(default=RULES, ge=RULES, le=RULES)
    """The decision rules that the run began with."""

    @property
    def authors(self) -> tuple[str, ...]:
        """All who write gradients, the built-in one first, then by name."""
        return (BUILT_IN_AUTHOR, *sorted(self.contributors))
