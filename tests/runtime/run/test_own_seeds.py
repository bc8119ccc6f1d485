"""Seed instructions of one's own, by `[data] seeds` or `bigpe run --seeds`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from bigpe.agents.messages.core import ArmPulled, RunStarted
from bigpe.runtime.cli import cli
from bigpe.runtime.formatting import first_line
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.project.seed_files import seed_instructions, seeds_for
from bigpe.runtime.run.style import checked_seeds
from bigpe.runtime.sharing.model_card import quotation
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.testing.runs import CONFIG, messages_of, run_fake

run_module = import_module("bigpe.runtime.cli.run.run")
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
        "[[seed]]\nname = 'x'\ntext = ' \\n '".replace("'", '"'),
        "[[seed]]\nname = 'x'\ntext = 'a'\ncomment = 'b'",
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


LONG = "You write prompts.\r\n\r\n  - one paragraph\t\r\n  - 夕陽 stays\r\n\r\n"


@pytest.mark.parametrize("name", ["mine.txt", "mine.md", "mine"])
def test_a_text_file_is_one_instruction(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + LONG.encode())
    (seed,) = seeds_for(config(name), tmp_path)
    text = "You write prompts.\n\n  - one paragraph\n  - 夕陽 stays"
    assert (seed.name, seed.instruction) == ("mine", Instruction(text=text))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n\t\n",
        b"a\x00b",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xfea\x00",
        b"word " * 4001,
        OWN.encode(),
    ],
)
def test_a_text_file_that_is_no_instruction_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"\[data\] seeds: .*own.txt"):
        seeds_for(config("own.txt"), tmp_path)


def test_a_folder_is_no_instruction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        seeds_for(config("."), tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_run_takes_a_file_of_seeds_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "bigpe.toml").write_text("")
    file = (project if inside else tmp_path) / "mine.txt"
    file.write_text("Say little.\nSay it well.")
    taken: list[BigpeConfig] = []

    async def go(name: str, folder: Path, config: BigpeConfig, **_: object) -> int:
        taken.append(config)
        return 0

    monkeypatch.setattr(run_module, "go", go)
    done = CliRunner().invoke(cli, ["run", "-p", str(project), "--seeds", str(file)])
    assert done.exit_code == 0, done.output
    (seed,) = seeds_for(taken[0], project)
    assert seed.instruction.text == "Say little.\nSay it well."
    assert Path(taken[0].data.seeds or "").is_absolute() != inside


def test_config_check_names_seeds_and_professional_prompts(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Say little.\nSay it well.")
    file = tmp_path / "bigpe.toml"
    file.write_text('[data]\nseeds = "mine.txt"\n[render]\nmodel = "stabilityai/sdxl-turbo"\n')
    done = CliRunner().invoke(cli, ["config", "check", "-p", str(tmp_path), "--json"])
    report = json.loads(done.output)
    assert (report["form"], report["professional"]) == ("tags", ["tags"])
    assert report["seeds"] == {"mine": 5}
    file.write_text('[data]\nseeds = "other.txt"\n')
    done = CliRunner().invoke(cli, ["config", "check", "-p", str(tmp_path)])
    assert done.exit_code != 0


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (("--no-pull",), False),
        (("--template", "sdxl-turbo"), True),
        (("--llm", "openai/gpt-5-mini"), True),
        (("--llm", "openai/gpt-5-mini", "--template", "sdxl-turbo"), True),
    ],
)
def test_init_writes_seeds_for_a_language_model_of_ones_own(
    tmp_path: Path, options: tuple[str, ...], written: bool
) -> None:
    made = CliRunner().invoke(cli, ["init", str(tmp_path), *options])
    assert made.exit_code == 0, made.output
    seeds = seeds_for(load_config(tmp_path / "bigpe.toml"), tmp_path)
    assert (tmp_path / "seeds.toml").exists() == written
    assert len(seeds) == (4 if written else 2)


def test_init_keeps_seeds_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "seeds.toml").write_text(OWN)
    made = CliRunner().invoke(cli, ["init", str(tmp_path), "--template", "sdxl-turbo"])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "seeds.toml").read_text() == OWN


def test_a_table_shows_the_first_line() -> None:
    assert first_line("a\nb") == "a …" and first_line(" a ") == "a"


async def test_a_run_may_begin_with_one_instruction_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Say little.\nSay it well.")
    rounds = {**CONFIG["run"], "rounds": 6}
    await run_fake(tmp_path, {"run": rounds, "data": {"seeds": "mine.txt"}})
    (start,) = messages_of(tmp_path, RunStarted)
    (seed,) = start.plan.instructions
    assert seed.instruction.text == "Say little.\nSay it well."
    pulled = {message.instruction for message in messages_of(tmp_path, ArmPulled)}
    assert seed.instruction.id in pulled and len(pulled) > 1


def test_a_card_keeps_the_lines_of_an_instruction() -> None:
    assert quotation("Say little.\n- *well*") == "> Say little.\\\n> - \\*well\\*"
    html = MarkdownIt().render(quotation("one\ntwo"))
    assert html == "<blockquote>\n<p>one<br />\ntwo</p>\n</blockquote>\n"


CUT = (
    "Describe the scene in three plain sentences: first what stands in front, then the light, "
    "then where the viewer is. Keep every number that the user gives."
)


def test_the_evidence_worded_style_refuses_what_its_children_would_lose(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(CUT)
    with pytest.raises(ConfigError, match="own"):
        checked_seeds(config("own.txt"), tmp_path)
    llm = {"provider": "openai", "model": "gpt-5-mini"}
    capable = config("own.txt").model_copy(
        update={"llm": BigpeConfig.model_validate({"llm": {"default": llm}}).llm}
    )
    (seed,) = checked_seeds(capable, tmp_path)
    assert seed.instruction.text == CUT
    assert checked_seeds(config(None), tmp_path) == seed_instructions()


async def test_a_run_refuses_it_before_it_exists(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(CUT)
    with pytest.raises(ConfigError, match="own"):
        await run_fake(tmp_path, {"data": {"seeds": "own.txt"}})
    assert messages_of(tmp_path, RunStarted) == []
