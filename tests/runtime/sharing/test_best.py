"""One best instruction for every command that hands it out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.browser import pages_of
from click.testing import CliRunner

from bigpe.runtime.cli import cli
from bigpe.runtime.evaluation.compare import Evaluation
from bigpe.runtime.evaluation.selection import Selection
from bigpe.runtime.project.paths import Project
from bigpe.runtime.sharing.best import best_instruction
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.core.errors import DataError
from bigpe.services.core.values import Instruction
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import CONFIG, run_fake

SHORT = CONFIG | {"run": CONFIG["run"] | {"rounds": 4}}


def report(chosen: Instruction | None, prompts: int) -> str:
    return Evaluation(
        run="main", split="test", scorer="s", guard_scorers={}, seed=0, seeds=1, prompts=0,
        selection=Selection(candidates=(), chosen=chosen, prompts=prompts, renders=0),
        compared=(), lines=(), pool_diversity=None, renders=0,
    ).model_dump_json()  # fmt: skip


async def store_report(folder: Path, body: str) -> None:
    async with Store(Project(folder).database) as store:
        values = {"run": "main", "split": "test", "body": body, "ts": 1.0}
        await store.write([("put_evaluation_report", values)])


async def instructions(folder: Path) -> tuple[Instruction, Instruction]:
    """The best by train gain, and another one."""
    async with Store(Project(folder).database, read_only=True) as store:
        pool = (await replayed_campaign(store, "main")).pool
    best = pool.best().instruction
    return best, next(row.instruction for row in pool.rows() if row.instruction != best)


@pytest.fixture(scope="module")
def by_train(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A finished run; the text of its best instruction, and by what that is chosen."""
    folder = tmp_path_factory.mktemp("train")
    asyncio.run(run_fake(folder, SHORT))
    return folder, asyncio.run(instructions(folder))[0].text, "train"


@pytest.fixture(scope="module")
def by_validation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The same with an evaluation that chose another instruction."""
    folder = tmp_path_factory.mktemp("validation")
    asyncio.run(run_fake(folder, SHORT))
    _, other = asyncio.run(instructions(folder))
    asyncio.run(store_report(folder, report(other, 4)))
    return folder, other.text, "validation"


@pytest.fixture(params=["by_train", "by_validation"])
def case(request: pytest.FixtureRequest) -> tuple[Path, str, str]:
    return request.getfixturevalue(request.param)


def output(*words: str) -> tuple[str, str]:
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout, done.stderr


def test_the_status_prints_it(case: tuple[Path, str, str]) -> None:
    folder, text, by = case
    stdout, _ = output("status", "-p", str(folder), "--best")
    assert text in stdout and by in stdout
    found = json.loads(output("status", "-p", str(folder), "--best", "--json")[0])["main"]
    assert (found["text"], found["chosen_by"]) == (text, by)


def test_the_system_prompt_holds_it(case: tuple[Path, str, str]) -> None:
    folder, text, by = case
    stdout, stderr = output("export", "-p", str(folder), "--system-prompt")
    assert text in stdout and by in stderr
    found = json.loads(output("export", "-p", str(folder), "--system-prompt", "--json")[0])
    assert text in found["system_prompt"] and found["chosen_by"] == by


def test_refine_rewrites_under_it(
    case: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, text, by = case
    log = tmp_path / "calls.jsonl"
    monkeypatch.setattr("bigpe.runtime.sharing.refine.load_client", lambda config: FakeLlm(log=log))
    stdout, stderr = output("refine", "-p", str(folder), "a cat on the beach", "--json", "--fresh")
    rows: list[dict[str, Any]] = json.loads(stdout)
    assert [row["chosen_by"] for row in rows] == [by] and by in stderr
    assert text in json.loads(log.read_text().splitlines()[0])[1][0]
    given = output("refine", "--instruction", "Name the light.", "a cat on the beach", "--json")
    assert [row["chosen_by"] for row in json.loads(given[0])] == [None]


def test_publish_takes_it(case: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, text, by = case
    stdout, stderr = output("publish", "-p", str(folder), "--to", str(tmp_path), "--json")
    assert json.loads(stdout)["chosen_by"] == by and by in stderr
    assert json.loads((tmp_path / "instruction.json").read_text())["instruction"]["text"] == text


async def test_evaluations_without_a_measured_choice_leave_it_to_train_gain(
    tmp_path: Path,
) -> None:
    await run_fake(tmp_path, SHORT)
    best, other = await instructions(tmp_path)
    async with Store(Project(tmp_path).database, read_only=True) as store:
        for body, expected in (
            (report(other, 4), (other, "validation")),
            (report(None, 4), (best, "train")),
            (report(best, 0), (best, "train")),
        ):
            await store_report(tmp_path, body)
            found = await best_instruction(store, "main")
            assert (found.instruction, found.chosen_by) == expected
        await store_report(tmp_path, "{}")
        with pytest.raises(DataError):
            await best_instruction(store, "main")


async def test_the_overview_names_the_choice_of_the_evaluation(
    by_train: tuple[Path, str, str], by_validation: tuple[Path, str, str]
) -> None:
    for folder, _, by in (by_train, by_validation):
        async with pages_of(folder) as served:
            page = (await served.get()).text
        assert ("by validation gain" in page) == (by == "validation")
