"""The plan of a run: all inputs of its decisions in one frozen value, part of the first message."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bigpe.agents.messages import plugin as roles
from bigpe.agents.messages.usage import Limits, Prices
from bigpe.services.core.values import Instruction, Json, Value

RULES = 3
"""Version of the decision rules. Raise it with each change of the loop's decisions: experiments
compare only cells of the same rules. Rules 1 and 2 were never released (docs/decisions/0020, 0025).
"""
EVIDENCE_WORDED = "evidence-worded"
"""The style for small models: the evidence decides, the model words it."""
FREE_FORM = "free-form"
"""The style for models that can reason."""
BUILT_IN_AUTHOR = "gradient"
"""Author name of the gradient calculator."""


MOST_CALLS = {"generator": 3, "gradient": 2, "modifier": 2}
"""Calls of the embedded model for one rewrite, gradient and proposal, at most."""


Batches = Literal["shared", "fresh"]
"""The prompts of a pull: the next ones of its instruction, so that all instructions begin with the
same; or those of its round, half of them new ones."""


class SeedInstruction(Value):
    """A seed instruction with its displayed name."""

    name: str
    instruction: Instruction


class CampaignPlan(Value):
    """All inputs of a run's decisions, frozen when it starts, so that resuming needs no files."""

    rounds: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Naive prompts per pull."""
    seeds_per_prompt: int = Field(ge=1)
    """Images per prompt and pull."""
    concurrency: int = Field(ge=1)
    """Maximum number of pulls in flight."""
    seed: int
    policy: Json
    pool_size: int = Field(ge=2)
    pilot_prompts: int = Field(ge=2)
    """Prompts rendered twice before the first pull, to estimate the noise of a gain."""
    patience: int = Field(ge=0)
    """Number of rounds without a better best instruction after which the run stops; 0: never."""
    most_calls: dict[str, int] = Field(default=MOST_CALLS)
    """The largest number of language model calls for one rewrite, gradient and proposal."""
    limits: Limits = Limits()
    prices: Prices = Prices()
    improvements: int = Field(ge=1)
    """Gradients per round and author."""
    proposals: int = Field(default=1, ge=1, le=4)
    """Proposals per gradient of the gradient calculator, by different operators."""
    batches: Batches = "shared"
    train: tuple[str, ...] = Field(min_length=1)
    """Naive prompts that pulls draw from; never validation or test prompts."""
    professional: dict[str, str]
    """Professional prompts of the same subject, by naive prompt. Some naive prompts have none."""
    instructions: tuple[SeedInstruction, ...] = Field(min_length=1)
    style: str = EVIDENCE_WORDED
    """Name of the reasoning style."""
    style_package: str = ""
    """The package of the style, with its version; "" for a built-in style."""
    gates: tuple[roles.GateRule, ...] = ()
    contributors: tuple[str, ...] = ()
    """Plugin actors that write gradients, too."""
    observers: tuple[str, ...] = ()
    rules: int = Field(default=RULES, ge=RULES, le=RULES)
    """The decision rules that the run began with."""

    @property
    def studies(self) -> bool:
        """Whether requests hold the whole batch and the search so far."""
        return self.style != EVIDENCE_WORDED

    @property
    def texts(self) -> dict[str, int]:
        """The largest number of gradients and proposals of a round."""
        others = len(self.contributors)
        return {
            "gradient": self.improvements,
            "modifier": self.improvements * (self.proposals + others),
        }

    @property
    def authors(self) -> tuple[str, ...]:
        """The authors of gradients: the gradient calculator, then contributors by name."""
        return (BUILT_IN_AUTHOR, *sorted(self.contributors))
