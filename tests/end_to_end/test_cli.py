"""The command line as a user meets it, bad input above all."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bigpe.runtime.cli import COMMANDS, main
from bigpe.testing.runs import run_fake


class Told(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Told]


@pytest.fixture
def bigpe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The `bigpe` command in this process: its exit code and what it printed."""

    def run(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["bigpe", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        code = ended.value.code
        return Told(code if isinstance(code, int) else 0, output.out, output.err)

    return run


@pytest.fixture
def project(tmp_path: Path, bigpe: Run) -> Path:
    assert bigpe("init", tmp_path / "p", "--no-pull").code == 0
    return tmp_path / "p"


def test_it_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bigpe", "--help"], capture_output=True, text=True, check=True
    )
    assert "Examples:" in done.stdout and "\x1b" not in done.stdout
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert not re.search(r"\w\.\.\.$", done.stdout, re.M), "a line about a command is cut"


def loaded_by(words: str, at: Path) -> set[str]:
    """The modules that a command imports, by its end."""
    result = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "bigpe", *words.split()],
        cwd=at, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}


@pytest.mark.parametrize("words", ["--help", "status --help", "inspect --help", "config check"])
def test_what_only_reads_waits_for_no_heavy_library(project: Path, words: str) -> None:
    loaded = loaded_by(words, project)
    libraries = ("torch", "diffusers", "openai", "scipy.special", "ftfy")
    heavy = loaded.intersection(libraries)
    assert not heavy
    assert ("bigpe.runtime.project.config" in loaded) == (words != "--help")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(bigpe: Run, name: str) -> None:
    result = bigpe(name, "--help")
    assert result.code == 0 and "Usage:" in result.out


def test_the_shell_completes_commands_and_values() -> None:
    for words, wanted in (("bigpe vi", "view"), ("bigpe serve ren", "render")):
        requests = {"_BIGPE_COMPLETE": "bash_complete", "COMP_WORDS": words}
        requests |= {"COMP_CWORD": str(words.count(" "))}
        command = str(Path(sys.executable).with_name("bigpe"))
        done = subprocess.run([command], env=os.environ | requests, capture_output=True, text=True)
        assert done.stdout.split() == [f"plain,{wanted}"], done.stderr


def test_init_leaves_an_existing_file_alone(bigpe: Run, project: Path) -> None:
    before = (project / "bigpe.toml").read_text()
    result = bigpe("init", project, "--no-pull", "--template", "sdxl-turbo")
    assert result.code == 2 and "there already" in result.err
    assert (project / "bigpe.toml").read_text() == before


@pytest.mark.parametrize("template", ["embedded", "sdxl-turbo"])
def test_the_packaged_configurations_are_valid(bigpe: Run, tmp_path: Path, template: str) -> None:
    bigpe("init", tmp_path / "p", "--no-pull", "--template", template)
    result = bigpe("config", "check", "-p", tmp_path / "p", "--json")
    assert result.code == 0
    counts = json.loads(result.out)["prompts"]
    assert min(counts.values()) > 10


BAD_CONFIGS = {
    "unknown key": ("[run]\nrounds = 3\nround = 4\n", r"line 3: unknown key 'run.round'"),
    "wrong type": ('[run]\nrounds = "many"\n', "line 2: run.rounds"),
    "out of range": ("[run]\n\nbatch_size = 0\n", "line 3: run.batch_size"),
    "unknown section": ("[painting]\nx = 1\n", "unknown key 'painting'"),
    "not TOML": ("[run\n", "line 1"),
    "unknown role": ("[llm.boss]\n", "no such role"),
    "unknown policy": ('[policy]\nname = "luck"\n', "line 2: policy.name"),
}


@pytest.mark.parametrize("case", list(BAD_CONFIGS))
def test_a_mistake_in_the_configuration_is_named(bigpe: Run, tmp_path: Path, case: str) -> None:
    text, wanted = BAD_CONFIGS[case]
    (tmp_path / "bigpe.toml").write_text(text)
    result = bigpe("run", "-p", tmp_path)
    assert result.code == 2
    assert wanted in result.err and "Traceback" not in result.err
    assert not (tmp_path / "bigpe.db").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ('[llm.default]\nprovider = "os.system"\n', "not trusted"),
        ('[llm.default.config]\napi_key = "sk-1"\n', "do not belong in a file"),
        ('[llm.default]\napi_key_env = "NO_SUCH_VARIABLE"\n', "NO_SUCH_VARIABLE"),
        ('[data]\nnaive = "nowhere.txt"\n', "nowhere.txt"),
        ('[render]\nmodel = "/no/such/folder"\n', "no such folder"),
        ('[score]\nmodel = "/no/such/folder"\n', "no such folder"),
    ],
)
def test_a_model_or_file_that_is_not_there_is_named(
    bigpe: Run, tmp_path: Path, section: str, wanted: str
) -> None:
    (tmp_path / "bigpe.toml").write_text(section)
    result = bigpe("run", "-p", tmp_path)
    assert result.code != 0
    assert wanted in result.err + result.out and "Traceback" not in result.err


def test_there_is_no_configuration(bigpe: Run, tmp_path: Path) -> None:
    result = bigpe("run", "-p", tmp_path)
    assert result.code == 2 and "bigpe init" in result.err


def test_a_bad_run_name(bigpe: Run, project: Path) -> None:
    result = bigpe("run", "../evil", "-p", project)
    assert result.code == 2 and "cannot name a run" in result.err


def test_a_project_folder_that_cannot_be_written(bigpe: Run, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    (tmp_path / "bigpe.toml").write_text("")
    result = bigpe("run", "-p", tmp_path)
    assert result.code == 1 and "cannot" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("content", ["", "\n\n  \n", "\x00\x01\n"])
def test_an_empty_prompt_file(bigpe: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "naive.txt").write_text(content)
    (tmp_path / "bigpe.toml").write_text('[data]\nnaive = "naive.txt"\n')
    result = bigpe("run", "-p", tmp_path)
    assert result.code == 2 and "naive.txt" in result.err


def test_import_shows_what_is_taken_and_what_is_not(bigpe: Run, project: Path) -> None:
    file = project / "mine.txt"
    rows = ["a tower, ünïcode 🎨, oil", "a tower, ünïcode 🎨, oil", "x" * 5000, "bad\x07bell"]
    file.write_text("\n".join(rows))
    result = bigpe("prompts", "import", file, "-p", project)
    assert result.code == 0 and "1 taken, 3 rejected" in result.out
    for reason in ("same prompt", "5,000 characters", "control character"):
        assert reason in result.out
    found = bigpe("prompts", "search", "tower", "-p", project, "--json")
    assert json.loads(found.out) == [rows[0]]
    assert bigpe("prompts", "search", '"* OR NEAR(', "-p", project).code == 0
    typo = project.parent / "typo"
    assert bigpe("prompts", "import", file, "-p", typo).code == 2
    assert not typo.exists()
    typo.mkdir()
    assert bigpe("prompts", "import", file, "-p", typo).code == 2
    assert [*typo.iterdir()] == []


def test_a_finished_run_can_be_read(bigpe: Run, tmp_path: Path) -> None:
    asyncio.run(run_fake(tmp_path))

    def ask(*arguments: str) -> Told:
        return bigpe(*arguments, "-p", tmp_path)

    transcript = ask("inspect")
    assert transcript.code == 0, transcript.err
    for part in ("rewrite 3 prompts under", "rewrote 3 prompts", "naive picture", "mean (score"):
        assert part in transcript.out
    lines = ask("inspect", "--json").out.splitlines()
    assert {json.loads(line)["kind"] for line in lines} >= {"RunStarted", "ArmPulled", "RunStopped"}
    pool = json.loads(ask("inspect", "--pool", "--json").out)
    assert pool["best"] in {row["id"] for row in pool["instructions"]}
    (state,) = json.loads(ask("status", "--json").out)
    assert (state["state"], state["process"]) == ("complete", None)
    missing = ask("inspect", "other")
    assert missing.code == 2 and "there are: main" in missing.err


def test_a_database_of_a_newer_schema(bigpe: Run, project: Path) -> None:
    connection = sqlite3.connect(project / "bigpe.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    result = bigpe("run", "-p", project)
    assert result.code == 1 and "newer bigpe" in result.err


def test_a_database_of_0_1_0(bigpe: Run, project: Path) -> None:
    (project / "bigpe.db").unlink(missing_ok=True)
    connection = sqlite3.connect(project / "bigpe.db")
    connection.execute("CREATE TABLE run(name TEXT PRIMARY KEY) STRICT")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    for command in ("run", "status"):
        refused = bigpe(command, "-p", project)
        assert (refused.code, "bigpe init" in refused.err) == (2, True)


def test_stop_without_a_run(bigpe: Run, project: Path) -> None:
    result = bigpe("stop", "-p", project)
    assert result.code == 2 and "no process is writing" in result.err
