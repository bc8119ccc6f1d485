"""What an evaluation will ask for, and who must agree to it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bigpe.agents.reasoning.rules import EMBEDDED_REWRITES
from bigpe.prompts.library import naive_prompts
from bigpe.runtime.cli import cli
from bigpe.runtime.evaluation.forecast import Calls, forecast
from bigpe.runtime.evaluation.open_run import EvaluatedRun
from bigpe.runtime.evaluation.pipeline import EvaluationSettings, evaluate
from bigpe.services.core.errors import ConfigError
from bigpe.testing.runs import CONFIG, open_fake_evaluated, run_fake

FEW = EvaluationSettings(prompts=2, candidates=1)
ASKS = ("--prompts", "2", "--candidates", "3")
"""So few test prompts that the choice takes most of the calls."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing was evaluated of."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "naive.txt").write_text("\n".join(naive_prompts("world")[::8]))
    config = {
        "run": {**CONFIG["run"], "rounds": 3},
        "data": {"naive": "naive.txt"},
        "prices": {
            "render": 0.5,
            "score": 0.001,
            "llm": {"default": {"prompt": 1.0, "completion": 0.0}},
        },
    }
    asyncio.run(run_fake(folder, config))
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


async def test_the_forecast_is_what_the_evaluation_asks_for(project: Path) -> None:
    async with open_fake_evaluated(project) as run:
        expected = await forecast(run, FEW)
        assert not run.services.effects.paid, "a forecast calls no model"
        await evaluate(run, FEW, lambda _: None)
        paid = run.services.effects.paid
        # Rewrites that cannot be used take further attempts, and no picture of their own.
        assert (
            0 < expected.total.llm <= paid["llm"] <= EMBEDDED_REWRITES.attempts * expected.total.llm
        )
        assert 0 < paid["render"] <= expected.total.renders <= paid["render"] + 2
        assert expected.selection == Calls()
        assert not expected.needs_consent
        assert (await forecast(run, FEW)).total == Calls(), "what is stored is free"


async def test_a_choice_among_several_counts(project: Path) -> None:
    settings = EvaluationSettings(prompts=2, candidates=3)
    async with open_fake_evaluated(project) as run:
        expected = await forecast(run, settings)
        prompts = len(run.prompts("validation"))
        await evaluate(run, settings, lambda _: None)
        again = await forecast(run, settings)
    assert expected.selection.llm == 3 * prompts
    assert prompts < expected.selection.renders <= 4 * prompts
    assert expected.needs_consent and not again.needs_consent
    assert again.selection == Calls()


async def test_money_and_time_are_of_the_run_s_own_figures(project: Path) -> None:
    async with open_fake_evaluated(project) as run:
        expected = await forecast(run, FEW)
    assert expected.minutes is not None and expected.minutes > 0
    pictures = 0.5 * expected.total.renders + 0.001 * expected.total.scores
    assert expected.usd is not None and pictures < expected.usd < pictures + 0.1


async def test_what_was_not_measured_is_unknown(project: Path) -> None:
    with sqlite3.connect(project / "bigpe.db") as connection:
        connection.execute("DELETE FROM payment")
    async with open_fake_evaluated(project) as run:
        expected = await forecast(run, FEW)
    assert expected.total.llm > 0 and expected.minutes is None and expected.usd is None


# -- the command ----------------------------------------------------------------------------------


def bigpe(project: Path, *words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *words, "-p", str(project)], input=answer)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(
        name: str, *, project: Path, fresh: bool
    ) -> AbstractAsyncContextManager[EvaluatedRun]:
        return open_fake_evaluated(project, name=name, fresh=fresh)

    monkeypatch.setattr("bigpe.runtime.cli.results.evaluate.open_run_for_evaluation", open_)


def reports(project: Path) -> int:
    with sqlite3.connect(project / "bigpe.db") as connection:
        [count] = connection.execute("SELECT count(*) FROM evaluation_report").fetchone()
        return int(count)


@pytest.mark.usefixtures("fakes")
def test_without_a_terminal_only_yes_starts_a_long_choice(project: Path) -> None:
    refused = bigpe(project, *ASKS)
    assert isinstance(refused.exception, ConfigError) and refused.exception.exit_code == 2
    assert "--yes" in str(refused.exception) and reports(project) == 0
    done = bigpe(project, *ASKS, "--yes", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["prompts"] == 2
    assert "LLM calls" in done.stderr and reports(project) == 1


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("y\n", 0)])
def test_at_a_terminal_an_answer_decides(
    project: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    assert bigpe(project, *ASKS, answer=answer).exit_code == code
    assert reports(project) == 1 - code
