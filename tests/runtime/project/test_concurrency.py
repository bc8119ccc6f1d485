"""`[run] concurrency = "auto"`: the number of rounds in flight follows from the configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigpe.agents.messages.core import PlanChanged, PoolChanged, RunStarted
from bigpe.agents.messages.plan import EVIDENCE_WORDED, FREE_FORM
from bigpe.runtime.cli.project.init import llm_section, write_config
from bigpe.runtime.project.concurrency import LEARNING_STEPS, LEAST, rounds_in_flight
from bigpe.runtime.project.config import AUTO, MOST_IN_FLIGHT, check_config, load_config
from bigpe.services.core.errors import ConfigError
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.runs import messages_of, open_fake, run_fake, transcript

REMOTE = {"provider": "openai", "model": "fake", "base_url": "http://localhost"}


def count(
    concurrency: int | str = AUTO,
    *,
    requests: int = 16,
    llm: dict[str, Any] | None = None,
    budget: dict[str, int] | None = None,
    style: str = FREE_FORM,
    proposals: int = 2,
    **run: int,
) -> int:
    models = {"default": {**REMOTE, "concurrency": requests}, **(llm or {})}
    raw = {"run": {"concurrency": concurrency, **run}, "llm": models, "budget": budget or {}}
    return rounds_in_flight(check_config(raw, where="the test"), style, proposals).rounds


@given(set_to=st.integers(1, MOST_IN_FLIGHT), rounds=st.integers(1, 1000))
def test_a_number_is_taken_as_it_is(set_to: int, rounds: int) -> None:
    assert count(set_to, rounds=rounds) == set_to


@given(
    requests=st.integers(1, 1000),
    rounds=st.integers(1, 10_000),
    batch_size=st.integers(1, 50),
    improvements=st.integers(1, 5),
    proposals=st.integers(1, 4),
)
def test_auto_leaves_a_run_steps_to_learn(
    requests: int, rounds: int, batch_size: int, improvements: int, proposals: int
) -> None:
    shape = {"batch_size": batch_size, "improvements": improvements, "proposals": proposals}
    found = count(requests=requests, rounds=rounds, **shape)
    assert LEAST <= found <= MOST_IN_FLIGHT
    assert found == LEAST or found * LEARNING_STEPS <= rounds
    assert found <= count(requests=requests, rounds=10 * rounds, **shape)


@pytest.mark.parametrize(
    ("rounds", "expected"), [(8, 2), (16, 2), (60, 7), (96, 11), (1_000_000, 11)]
)
def test_auto_at_the_default_size_of_rounds(rounds: int, expected: int) -> None:
    assert count(rounds=rounds) == expected


def test_a_budget_bounds_the_rounds_as_their_number_does() -> None:
    assert count(rounds=1000, budget={"renders": 200}) == count(rounds=40) == 5
    assert count(rounds=1000, budget={"llm_calls": 200}) == 5


def test_the_scarcest_model_decides() -> None:
    few = {"modifier": {**REMOTE, "model": "dear", "concurrency": 2}}
    assert LEAST < count(rounds=1000, llm=few) < count(rounds=1000)


def test_the_style_of_small_models_gets_two_rounds() -> None:
    assert count(rounds=1000, style=EVIDENCE_WORDED) == LEAST


@pytest.mark.parametrize("wrong", [0, 65, 1.5, "4", "Auto", True, None])
def test_what_is_neither_a_number_nor_auto_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"run\.concurrency") as refused:
        check_config({"run": {"concurrency": wrong}}, where="the test")
    assert len(str(refused.value).splitlines()) == 1


def test_init_writes_auto_for_a_language_model_of_another_machine(tmp_path: Path) -> None:
    remote = llm_section("openai/gpt-5-mini", None)
    made = {
        "one": write_config(tmp_path / "one", "embedded"),
        "two": write_config(tmp_path / "two", "embedded", remote),
        "three": write_config(tmp_path / "three", "sdxl-turbo"),
        "four": write_config(tmp_path / "four", "sdxl-turbo", remote),
    }
    found = {name: load_config(path).run.concurrency for name, path in made.items()}
    assert found == {"one": 2, "two": AUTO, "three": AUTO, "four": AUTO}


def config(concurrency: int | str, rounds: int = 24) -> dict[str, Any]:
    size = {"rounds": rounds, "batch_size": 1, "pilot_prompts": 2, "seed": 5}
    return {"run": {**size, "concurrency": concurrency}, "llm": {"default": REMOTE}}


async def begun(folder: Path, settings: dict[str, Any]) -> None:
    """Run until two rounds are settled."""
    async with open_fake(folder, settings, llm=FakeReasoner()) as session:
        async for message in session.run():
            if isinstance(message, PoolChanged) and message.round == 2:
                session.pause()


async def opened(folder: Path, settings: dict[str, Any]) -> None:
    """Apply changed settings, without going on."""
    async with open_fake(folder, settings, llm=FakeReasoner()):
        pass


def test_auto_gives_the_run_of_its_number(tmp_path: Path) -> None:
    for name, concurrency in (("auto", AUTO), ("three", 3)):
        settings = {**config(concurrency), "budget": {"tokens": 500}}  # it ends after some rounds
        asyncio.run(run_fake(tmp_path / name, settings, llm=FakeReasoner()))
    assert transcript(tmp_path / "auto") == transcript(tmp_path / "three")


def test_a_resumed_run_keeps_its_number(tmp_path: Path) -> None:
    asyncio.run(begun(tmp_path, config(AUTO)))
    more = config(AUTO, rounds=80)
    more["llm"] = {"default": {**REMOTE, "concurrency": 64}}
    asyncio.run(opened(tmp_path, more))
    asyncio.run(opened(tmp_path, {**more, "run": {**more["run"], "concurrency": 5}}))
    asyncio.run(opened(tmp_path, more))
    (start,) = messages_of(tmp_path, RunStarted)
    changes = messages_of(tmp_path, PlanChanged)
    assert start.plan.concurrency == 3
    assert [(m.rounds, m.concurrency) for m in changes] == [(80, 3), (80, 5), (80, 10)]
