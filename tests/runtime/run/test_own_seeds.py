"""Seed instructions of one's own, by `[data] seeds`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigpe.agents.messages.core import RunStarted
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.run.plan import seed_instructions, seeds_for
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.testing.runs import CONFIG, messages_of, run_fake

OWN = """
[[seed]]
name = "ornate"
text = "Add ornament."

[[seed.exemplar]]
naive = "a pan"
rewrite = "a pan, ornate"

[[seed]]
name = "bare"
text = "Say little."
"""


def config(name: str | None) -> BigpeConfig:
    return BigpeConfig.model_validate({"data": {"seeds": name}})


async def test_a_run_begins_with_the_projects_own_instructions(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    rounds = {**CONFIG["run"], "rounds": 2}
    await run_fake(tmp_path, {"run": rounds, "data": {"seeds": "own.toml"}})
    (start,) = messages_of(tmp_path, RunStarted)
    assert [(seed.name, seed.instruction) for seed in start.plan.instructions] == [
        (
            "ornate",
            Instruction(
                text="Add ornament.", exemplars=(Exemplar(naive="a pan", rewrite="a pan, ornate"),)
            ),
        ),
        ("bare", Instruction(text="Say little.")),
    ]


def test_without_a_file_the_packaged_ones_are_taken(tmp_path: Path) -> None:
    assert seeds_for(config(None), tmp_path) == seed_instructions()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "not toml",
        "seed = 3",
        "[[seed]]\nname = 'x'",
        "[[seed]]\nname = 'x'\ntext = ''",
        "[[seed]]\nname = 'x'\ntext = 3",
        "seed = []",
        "[[seed]]\nname = 'x'\ntext = 'a'\n[[seed]]\nname = 'y'\ntext = 'a'",
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"\[data\] seeds: .*own.toml"):
        seeds_for(config("own.toml"), tmp_path)
