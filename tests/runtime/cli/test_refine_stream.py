"""`bigpe refine` in a pipe and over files: each result as soon as it is there, in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.paths import import_path

from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.runtime.cli import cli
from bigpe.runtime.cli.share.refine_output import NOTE_EVERY
from bigpe.runtime.sharing.refine import AT_A_TIME, STOPS_AFTER, Refiner, RefineStream, refine
from bigpe.services.core.errors import (
    BigpeError,
    DataError,
    LlmError,
    OutageError,
    QuotaError,
    TransientLlmError,
)
from bigpe.services.core.retrying import RetryRule
from bigpe.services.core.values import Instruction
from bigpe.services.prompt_data.files import PromptRow
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

    async def prompts() -> AsyncGenerator[PromptRow]:
        taken.append("first")
        yield PromptRow(1, "a red fox")
        await answered.wait()
        for number in range(3 * AT_A_TIME):
            taken.append(str(number))
            yield PromptRow(number + 2, f"a red fox {number}")

    async with Refiner.open(INSTRUCTION, client=FakeLlm()) as refiner:
        stream = RefineStream(refiner).results(prompts())
        first = await anext(stream)
        assert taken == ["first"]
        assert first.text.startswith("a red fox")
        answered.set()
        second = await anext(stream)
        await asyncio.sleep(0)
        assert second.row.text == "a red fox 0"
        assert len(taken) <= AT_A_TIME + 4, "a pipe without end is not read to its end"
        await stream.aclose()


def subjects(text: str) -> list[str]:
    return [line.split(",")[0] for line in text.split("\n")[:-1]]


def rows_of(result: Result) -> list[dict[str, Any]]:
    return json.loads(result.stdout)


LINES = "a fox\n\n  a boat  \n# my cats\na cat\na fox\n#1 fan of cats\n"


def test_a_line_in_is_a_line_out() -> None:
    done = refined("-", given=LINES)
    assert done.exit_code == 0
    assert subjects(done.stdout) == [
        "a fox", "", "a boat", "# my cats", "a cat", "a fox", "#1 fan of cats"
    ]  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == lines[5] != "a fox"
    rows = [json.loads(line) for line in refined("-", "--jsonl", given=LINES).stdout.splitlines()]
    assert [row["text"] for row in rows] == lines
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["refined"] for row in rows] == [True, False, True, False, True, True, True]
    assert rows[1]["cause"] == rows[3]["cause"] == "input" and rows[0]["cause"] is None


def test_rows_of_a_file_stay_in_their_places(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text('id,prompt\n1,"a fox\nin the snow"\n2,\n3,a boat\n4,a boat\n')
    done = refined("--file", str(file))
    assert subjects(done.stdout) == ["a fox in the snow", "", "a boat", "a boat"]
    assert f"{file}, line 4: kept unchanged (empty)" in done.stderr
    rows = rows_of(refined("--file", str(file), "--json"))
    assert [row["naive"] for row in rows] == ["a fox in the snow", "", "a boat", "a boat"]


def test_prompts_of_several_lines_become_one_line() -> None:
    assert subjects(refined("a fox\n\nin the snow", "a boat").stdout) == [
        "a fox in the snow", "a boat"
    ]  # fmt: skip
    given = '{"p": "a fox\\nin the snow"}\n\n{"p": 5}\n"a boat"\nno json\n'
    done = refined("-", "--stdin-format", "jsonl", "--column", "p", given=given)
    assert subjects(done.stdout) == ["a fox in the snow", "", "5", "a boat", "no json"]
    assert "standard input, line 3: kept unchanged (not text but int)" in done.stderr


def test_a_byte_that_is_not_utf_8_is_the_inputs() -> None:
    done = CliRunner().invoke(
        cli, ["refine", "--instruction", "x", "--json", "-"], input=b"a fox\nun caf\xe9\na cat\n"
    )
    assert isinstance(done.exception, DataError) and done.exception.exit_code == 2
    assert str(done.exception).startswith("standard input, line 2: byte 0xe9 is not UTF-8")
    assert [row["naive"] for row in rows_of(done)] == ["a fox"], "what was paid for is printed"


class Troubled(FakeLlm):
    """Fails for prompts that say so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def create(self, messages: Any, **settings: Any) -> Any:
        self.calls += 1
        text = str(messages[-1].content)
        if "filtered" in text:
            raise LlmError("the provider's filter refuses the prompt")
        if "spent" in text:
            raise QuotaError("no quota is left")
        return await super().create(messages, **settings)


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Troubled:
    client = Troubled()
    monkeypatch.setattr("bigpe.runtime.sharing.refine.load_client", lambda config: client)
    rewrite = Refiner.rewrite

    async def rewritten(self: Refiner, prompt: str) -> Rewrite:
        if "lost" in prompt:
            raise OutageError("nobody has answered for ten minutes")
        return await rewrite(self, prompt)

    monkeypatch.setattr(Refiner, "rewrite", rewritten)
    return client


def test_a_prompt_that_fails_comes_out_as_it_went_in(troubled: Troubled) -> None:
    given = "a fox\na filtered cat\na boat\n"
    done = refined("-", given=given)
    assert done.exit_code == 0
    assert subjects(done.stdout) == ["a fox", "a filtered cat", "a boat"]
    assert done.stdout.splitlines()[1] == "a filtered cat"
    assert "line 2" in done.stderr and "filter refuses" in done.stderr
    rows = rows_of(refined("-", "--json", given=given))
    assert [(row["refined"], row["cause"]) for row in rows] == [
        (True, None), (False, "call"), (True, None)
    ]  # fmt: skip
    assert "filter refuses" in rows[1]["reason"]


def test_none_refined_exits_1(troubled: Troubled) -> None:
    done = refined("a filtered cat", "--json")
    assert done.exit_code == 1
    assert [row["text"] for row in rows_of(done)] == ["a filtered cat"]


def test_a_service_that_fails_for_all_is_not_asked_for_the_rest(troubled: Troubled) -> None:
    given = "a fox\n" + "".join(f"a filtered cat {n}\n" for n in range(500))
    done = refined("-", "--json", given=given)
    assert isinstance(done.exception, LlmError) and done.exception.exit_code == 1
    rows = rows_of(done)
    assert rows[0]["refined"] and len(rows) >= STOPS_AFTER
    assert troubled.calls <= STOPS_AFTER + 2 * AT_A_TIME


@pytest.mark.parametrize(("word", "error"), [("spent", QuotaError), ("lost", OutageError)])
@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_a_service_that_stops_has_what_was_paid_for_printed(
    troubled: Troubled, form: str, word: str, error: type[BigpeError]
) -> None:
    done = refined("-", form, given=f"a fox\na {word} cat\na boat\n")
    assert isinstance(done.exception, error)
    out = done.stdout
    rows = json.loads(out) if form == "--json" else [json.loads(r) for r in out.splitlines()]
    assert rows[0]["naive"] == "a fox" and rows[0]["refined"]
    assert all(row["refined"] for row in rows)


async def test_finished_results_behind_a_slow_prompt_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last_begun = asyncio.Event()

    async def rewritten(self: Refiner, prompt: str) -> Rewrite:
        if prompt == "a slow cat":
            await asyncio.sleep(60)
        elif prompt == "a boat":
            last_begun.set()
        return Rewrite(naive=prompt, text=prompt.upper())

    async def rows() -> AsyncGenerator[PromptRow]:
        for number, text in enumerate(("a fox", "a slow cat", "a boat"), start=1):
            yield PromptRow(number, text)

    monkeypatch.setattr(Refiner, "rewrite", rewritten)
    async with Refiner.open(INSTRUCTION, client=FakeLlm()) as refiner:
        stream = RefineStream(refiner)
        results = stream.results(rows())
        assert (await anext(results)).text == "A FOX"
        waiting = asyncio.ensure_future(anext(results))
        await last_begun.wait()
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert [(result.row.line, result.text) for result in stream.left] == [(3, "A BOAT")]


async def test_from_python_a_failed_prompt_is_unchanged(troubled: Troubled) -> None:
    texts = await refine(["a fox", "a filtered cat"], instruction=INSTRUCTION)
    assert texts[0].startswith("a fox,") and texts[1] == "a filtered cat"
    with pytest.raises(LlmError):
        await refine(["a filtered cat"], instruction=INSTRUCTION)


def test_progress_of_long_lists() -> None:
    done = refined(*(f"a fox {n}" for n in range(NOTE_EVERY + 20)), "--json")
    assert f"{NOTE_EVERY} of {NOTE_EVERY + 20} done" in done.stderr
    assert len(rows_of(done)) == NOTE_EVERY + 20


PROGRAM = """
import asyncio, sys
import bigpe.runtime.sharing.refine as module
from bigpe.runtime.cli import main
from bigpe.testing.fakes import FakeLlm

class Slow(FakeLlm):
    async def create(self, messages, **settings):
        if "slow" in str(messages[-1].content):
            print("asked", file=sys.stderr, flush=True)
            await asyncio.sleep(100)
        return await super().create(messages, **settings)

module.load_client = lambda config: Slow()
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_prints_what_was_paid_for(number: int, tmp_path: Path) -> None:
    """With its standard input open, as in a pipe."""
    command = [sys.executable, "-c", PROGRAM, "refine", "--instruction", "x", "--json", "-"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": import_path()},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    with process:
        process.stdin.write("a fox\na slow cat\n")
        process.stdin.flush()
        assert process.stderr.readline() == "asked\n"
        process.send_signal(number)
        # Its input stays open until it has ended.
        out = process.stdout.read()
        err = process.stderr.read()
        assert process.wait() == 130, err
        process.stdin.close()
    assert [row["naive"] for row in json.loads(out)] == ["a fox"]
    assert "Traceback" not in err and "Fatal" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["a fox", "--file", __file__], ["--file", "/no/such"], ["a fox", "--column", "x"],
        ["a fox", "--stdin-format", "jsonl"], ["a fox", "-p", "/no/such"],
    ],
)  # fmt: skip
def test_usage(arguments: list[str]) -> None:
    assert refined(*arguments).exit_code == 2


def test_an_instruction_of_ones_own_is_under_the_projects_rules(tmp_path: Path) -> None:
    (tmp_path / "bigpe.toml").write_text('[constraints]\nrequired = ["never said"]\n')
    done = refined("a fox", "-p", str(tmp_path))
    assert done.stdout == "a fox\n" and done.exit_code == 1
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
