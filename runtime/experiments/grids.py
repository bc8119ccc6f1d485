"""The experiments as data: the compared configurations and the measurement of each run.

A grid changes settings of the project's own `bigpe.toml`. So the same experiment runs in the
embedded world and with SDXL-Turbo and HPS v2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Value

Measure = Literal["heldout", "baselines", "gradients", "transfer"]

PAPER_POLICIES = ("ucb1", "epsilon-greedy", "greedy", "random")
FURTHER_POLICIES = ("ucb-tuned", "kl-ucb", "thompson", "paper")
BATCH_SIZES = (1, 2, 3, 5, 10, 20)
UNBOUNDED_ROUNDS = 100_000
"""Rounds of a run that ends by its render budget."""


class GridArm(Value):
    """A configuration of a grid."""

    label: str
    changes: dict[str, Any] = Field(default_factory=dict[str, Any])
    """`section.key` -> value, over the project's configuration."""
    x: float | None = None
    """Place on the plot's x axis; None: a category."""
    series: str = ""
    """The line of the plot that the arm belongs to."""


class Experiment(Value):
    """A question, the configurations that answer it, and the measurement of each run."""

    name: str
    question: str
    arms: tuple[GridArm, ...] = Field(min_length=1)
    measure: Measure = "heldout"
    reference: str
    """The arm, or the condition of a `baselines` table, that all others are compared with."""
    axis: str = ""
    """Label of the plot's x axis."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the arms, in the order of the tables."""
        return tuple(arm.label for arm in self.arms)


def _lines(
    label: str, key: str, values: Sequence[float], policies: Sequence[str] = ("ucb1",)
) -> tuple[GridArm, ...]:
    """An arm for each value of a setting and each policy, which is a line of the plot."""
    return tuple(
        GridArm(
            label=label.format(policy=policy, value=value),
            changes={"policy.name": policy, key: value},
            x=value,
            series=policy,
        )
        for value in values
        for policy in policies
    )


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="baselines",
            question="Does the instruction that a run finds beat no, a neutral and a professional "
            "prompt on held-out prompts? (the paper's Table 2)",
            arms=(GridArm(label="bigpe"),),
            measure="baselines",
            reference="seed instruction",
        ),
        Experiment(
            name="batch-size",
            question="Which batch size is best at an equal render budget? (the paper's Table 1)",
            arms=_lines("{policy}, batch {value}", "run.batch_size", BATCH_SIZES, PAPER_POLICIES),
            reference="ucb1, batch 5",
            axis="naive prompts a batch",
        ),
        Experiment(
            name="policies",
            question="Which way of choosing the next instruction is best?",
            arms=tuple(
                GridArm(label=name, changes={"policy.name": name})
                for name in (*PAPER_POLICIES, *FURTHER_POLICIES)
            ),
            reference="greedy",
        ),
        Experiment(
            name="gradient-validity",
            question="Is what the gradients say true?",
            arms=(GridArm(label="bigpe"),),
            measure="gradients",
            reference="bigpe",
        ),
        Experiment(
            name="modifier-db",
            question="Do professional prompts help the search?",
            arms=(
                GridArm(label="with professional prompts", changes={"data.professional": True}),
                GridArm(label="without", changes={"data.professional": False}),
            ),
            reference="without",
        ),
        Experiment(
            name="exploration",
            question="How much should UCB explore?",
            arms=_lines("exploration {value:g}", "policy.exploration", (0.0, 0.4, 0.8, 1.4, 2.0)),
            reference="exploration 0.8",
            axis="factor of the bonus",
        ),
        Experiment(
            name="pool-size",
            question="How many instructions should live at a time?",
            arms=_lines("pool size {value}", "run.pool_size", (2, 4, 8, 16)),
            reference="pool size 4",
            axis="instructions in the pool",
        ),
        Experiment(
            name="horizon",
            question="Does UCB catch up with greedy when there are more rounds?",
            arms=_lines(
                "{policy}, {value} renders",
                "budget.renders",
                (50, 100, 200, 400),
                ("ucb1", "greedy"),
            ),
            reference="greedy, 200 renders",
            axis="renders",
        ),
        Experiment(
            name="transfer",
            question="Does the instruction serve subjects, prompt types and a renderer that the "
            "search never saw?",
            arms=(GridArm(label="bigpe"),),
            measure="transfer",
            reference="same subjects",
        ),
    )
}


def experiment_named(name: str) -> Experiment:
    """The experiment with this name. ConfigError lists the names."""
    if name not in EXPERIMENTS:
        raise ConfigError(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def chosen_arms(experiment: Experiment, labels: tuple[str, ...]) -> tuple[GridArm, ...]:
    """The arms with these labels, or all arms without labels. ConfigError for a wrong label."""
    arms = {arm.label: arm for arm in experiment.arms}
    if unknown := [label for label in labels if label not in arms]:
        raise ConfigError(f"{experiment.name} has no arm {unknown[0]!r}; it has: {'; '.join(arms)}")
    return tuple(arms[label] for label in labels) if labels else experiment.arms


def arm_config(base: BigpeConfig, arm: GridArm, *, seed: int, renders: int) -> BigpeConfig:
    """The configuration of a run: the project's with the render budget and the arm's changes."""
    raw = base.model_dump(mode="json", exclude_none=True)
    changes = {
        "budget.renders": renders,
        "run.rounds": UNBOUNDED_ROUNDS,
        "run.patience": 0,
        **arm.changes,
        "run.seed": seed,
    }
    for key, value in changes.items():
        section, _, name = key.partition(".")
        raw.setdefault(section, {})[name] = value
    return check_config(raw, where=f"the grid's arm {arm.label!r}")
