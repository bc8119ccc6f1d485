"""`bigpe refine` in a pipe and over files: each result as soon as it is there, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bigpe.runtime.cli import cli
from bigpe.runtime.sharing.refine import AT_A_TIME, Refiner, refine_each
from bigpe.services.core.errors import TransientLlmError
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import Instruction
from bigpe.testing.fakes import FakeLlm

INSTRUCTION = Instruction(text="Name the light.")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigpe.runtime.sharing.refine.load_client", lambda config: FakeLlm())


def refined(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(
        cli, ["refine", "--instruction", INSTRUCTION.text, *arguments], input=given
    )


async def test_a_result_does_not_wait_for_the_next_prompt() -> None:
    answered = asyncio.Event()
    taken: list[str] = []

    async def prompts() -> AsyncGenerator[str]:
        taken.append("first")
        yield "a red fox"
        await answered.wait()
        for number in range(3 * AT_A_TIME):
            taken.append(str(number))
            yield f"a red fox {number}"

    stream = refine_each(prompts(), instruction=INSTRUCTION)
    first = await anext(stream)
    assert taken == ["first"]
    assert first.text.startswith("a red fox")
    answered.set()
    second = await anext(stream)
    await asyncio.sleep(0)
    assert second.naive == "a red fox 0"
    assert len(taken) <= AT_A_TIME + 4, "a pipe without end is not read to its end"
    await stream.aclose()


def test_lines_in_lines_out() -> None:
    done = refined("-", given="a fox\n\n  a boat  \na cat\n")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == ["a fox", "a boat", "a cat"]
    told = refined("-", "--jsonl", given="a fox\na cat\n").stdout
    rows = [json.loads(line) for line in told.splitlines()]
    assert [row["naive"] for row in rows] == ["a fox", "a cat"]
    assert [row["text"] for row in rows] == [lines[0], lines[2]]


def test_a_file_is_refined_and_bad_rows_are_told(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text("id,prompt\n1,a fox\n2,\n3,a boat\n")
    done = refined("--file", str(file), "--json")
    assert done.exit_code == 0
    assert [row["naive"] for row in json.loads(done.stdout)] == ["a fox", "a boat"]
    assert f"{file}, line 3: left out" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["a fox", "--file", __file__], ["--file", "/no/such"]])
def test_usage(arguments: list[str]) -> None:
    assert refined(*arguments).exit_code == 2


def test_an_instruction_of_ones_own_is_under_the_projects_rules(tmp_path: Path) -> None:
    (tmp_path / "bigpe.toml").write_text('[constraints]\nrequired = ["never said"]\n')
    done = refined("a fox", "-p", str(tmp_path))
    assert done.stdout == "a fox\n"
    assert "lacks what [constraints] requires" in done.stderr
    assert not (tmp_path / "bigpe.db").exists()


async def test_a_busy_model_is_asked_again() -> None:
    class Busy(FakeLlm):
        calls = 0

        async def create(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise TransientLlmError("busy")
            return await super().create(*args, **kwargs)

    retry = RetryRule(attempts=2, first_wait_s=0.0, longest_wait_s=0.0)
    async with Refiner.open(INSTRUCTION, client=Busy(), retry=retry) as refiner:
        done = await refiner.rewrite("a red fox")
    assert done.text.startswith("a red fox")
