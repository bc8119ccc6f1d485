"""What `bigpe export` writes stands alone and says what the run says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from benchmarks.browser import tab
from click.testing import CliRunner
from support.hostile_run import ATTACKS, poison
from support.http_llm import FakeServer
from support.paths import ROOT

from bigpe.agents.messages.core import ArmPulled, parse_message
from bigpe.runtime.cli.run.inspect import inspect
from bigpe.runtime.cli.share.export import export
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.resume.fork import with_best
from bigpe.runtime.transcript.search import Wanted, find
from bigpe.services.core.errors import ConfigError
from bigpe.services.store.database import Store
from bigpe.testing.runs import run_fake


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    asyncio.run(run_fake(folder))
    return folder


def exported(project: Path, *more: str) -> Path:
    result = CliRunner().invoke(export, ["main", "-p", str(project), *more])
    assert result.exit_code == 0, result.output
    return project / "runs" / "main-export"


async def test_the_files_hold_the_run(finished: Path) -> None:
    folder = await asyncio.to_thread(exported, finished)
    async with Store(finished / "bigpe.db", read_only=True) as store:
        rows = (await find(store, "main", Wanted(), limit=10**6, seconds=None)).rows
    text = (folder / "main.messages.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    assert [line["seq"] for line in lines] == [row.seq for row in rows]
    messages = [parse_message(json.dumps(line["message"])) for line in lines]
    assert messages == [row.message for row in rows]
    gains = [gain for m in messages if isinstance(m, ArmPulled) for gain in m.gains]
    table = pq.read_table(folder / "main.comparisons.parquet").to_pylist()
    for name in ("naive", "rewrite", "seed", "gain", "fallback", "image"):
        assert [row[name] for row in table] == [getattr(gain, name) for gain in gains]
    assert all(row["instruction_text"] for row in table)
    assert {path.name for path in folder.iterdir()} == {
        "main.html",
        "main.messages.jsonl",
        "main.comparisons.parquet",
    }


async def test_the_page_stands_alone_whatever_it_says(finished: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(finished, tmp_path / "p"))
    await poison(project)
    page = await asyncio.to_thread(exported, project, "--form", "html")
    (moved := tmp_path / "moved.html").write_bytes((page / "main.html").read_bytes())
    shutil.rmtree(project)
    async with tab() as opened:
        opened.allowed = (moved.as_uri(), "data:image/webp;base64,")
        await opened.page.goto(moved.as_uri(), wait_until="load")
        assert not await opened.hacked()
        assert ATTACKS[0] in await opened.page.inner_text("blockquote")
        assert await opened.page.locator("script, a[href^=javascript], base").count() == 0
        drawn = "all => all.every(i => i.complete && i.naturalWidth > 0) && all.length"
        assert await opened.page.eval_on_selector_all("img", drawn)
        assert await opened.faults_of_access() == ""
        assert await opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert opened.wrongs == []


def test_an_export_replaces_the_one_before_and_leaves_no_parts(finished: Path) -> None:
    before = exported(finished, "--form", "jsonl") / "main.messages.jsonl"
    whole = before.read_bytes()
    assert exported(finished, "--form", "jsonl").joinpath(before.name).read_bytes() == whole
    assert not list(before.parent.glob("*.partial"))


def test_a_folder_that_cannot_be_written_is_named(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(
        export, ["main", "-p", str(finished), "-o", str(tmp_path / "file" / "sub")]
    )
    assert "cannot write" in str(result.exception) and "sub" in str(result.exception)


def inspected(project: Path, *more: str) -> str:
    result = CliRunner().invoke(inspect, ["main", "-p", str(project), *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_inspect_finds_words_and_tells_a_message_whole(finished: Path) -> None:
    """What the pages answer is answered in the terminal too."""
    lines = [
        json.loads(line)
        for line in inspected(finished, "--text", "GOLDEN", "--json").split("\n")[:-1]
    ]
    assert lines and all("golden" in json.dumps(line).lower() for line in lines)
    assert {line["kind"] for line in lines} >= {"RenderRequested", "PromptsRewritten"}
    turn = json.loads(inspected(finished, "--type", "LlmTurn", "--json").split("\n")[0])
    whole = json.loads(inspected(finished, "--message", turn["mid"][:12], "--json"))
    assert whole["message"] == turn and whole["causes"][0] == turn["parent"]
    requests = [part["content"] for part in turn["chat"]]
    assert [t["text"] for t in whole["calls"][-1]["request"]["turns"]] == requests[:-1]
    assert whole["calls"][-1]["answer"]["text"] == requests[-1]
    output = inspected(finished, "--message", turn["mid"])
    assert "causes\n" in output and turn["parent"][:8] in output
    for start in ("", "nothing"):
        result = CliRunner().invoke(inspect, ["main", "-p", str(finished), "--message", start])
        assert result.exit_code != 0 and "id" in str(result.exception)


def test_the_best_instruction_is_a_system_prompt(finished: Path) -> None:
    found = CliRunner().invoke(export, ["main", "-p", str(finished), "--system-prompt"])
    best = asyncio.run(_best_text(finished))
    assert found.exit_code == 0 and best in found.stdout
    result = CliRunner().invoke(export, ["main", "-p", str(finished), "--system-prompt", "--json"])
    assert json.loads(result.stdout)["system_prompt"] == found.stdout.rstrip("\n")


def test_the_program_of_the_docs_asks_with_the_system_prompt(
    finished: Path, tmp_path: Path, server: FakeServer
) -> None:
    page = (ROOT / "docs" / "refining.md").read_text("utf-8")
    [program] = re.findall(r"```python\n(import sys\n.*?)```", page, re.DOTALL)
    found = CliRunner().invoke(export, ["main", "-p", str(finished), "--system-prompt"])
    (tmp_path / "system-prompt.txt").write_text(found.stdout, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="a fox\na boat\n",
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": server.url},
        check=True,
    )
    assert done.stdout == "a red fox, snow\n" * 2
    turns = [request["messages"] for request in server.requests]
    assert [each[-1]["content"] for each in turns] == ["a fox", "a boat"]
    assert all(each[0] == {"role": "system", "content": found.stdout} for each in turns)


async def _best_text(project: Path) -> str:
    async with Store(Project(project).database, read_only=True) as store:
        return (await with_best(store, "main", ()))[0].instruction.text


def test_a_system_prompt_goes_with_no_files(finished: Path) -> None:
    found = CliRunner().invoke(
        export, ["main", "-p", str(finished), "--system-prompt", "--form", "html"]
    )
    assert isinstance(found.exception, ConfigError)
