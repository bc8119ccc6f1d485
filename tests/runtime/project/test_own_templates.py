"""Request templates of one's own: `[reasoning] templates`."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from bigpe.agents.reasoning.rules import OwnTemplates
from bigpe.agents.reasoning.styles import make_style
from bigpe.prompts.templates import FREE_FORM_ROLES
from bigpe.runtime.cli import cli
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.run.resume.setting_changes import compare, require_allowed
from bigpe.runtime.run.style import style_of_config
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction

PACKAGED = {
    role: (files("bigpe.prompts") / f"free_form/{role}.toml").read_text("utf-8")
    for role in FREE_FORM_ROLES
}
PROJECT = """
[llm.default]
provider = "openai-compatible"
model = "some"
base_url = "http://127.0.0.1:9/v1"

[reasoning]
style = "free-form"
templates = "own"
"""


class Capable:
    """A model other than the embedded one."""

    embedded = False
    thinks = False


def project(folder: Path, role: str, text: str, config: str = PROJECT) -> Path:
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / f"{role}.toml").write_text(text)
    path = folder / "bigpe.toml"
    path.write_text(config)
    return path


def given(config: BigpeConfig) -> OwnTemplates:
    assert isinstance(config.reasoning.templates, OwnTemplates)
    return config.reasoning.templates


@pytest.mark.parametrize("role", FREE_FORM_ROLES)
def test_a_packaged_template_is_a_valid_one_of_ones_own(role: str, tmp_path: Path) -> None:
    own = given(load_config(project(tmp_path, role, PACKAGED[role])))
    assert own.own_files == (f"{role}.toml",)
    assert [own.of(each) for each in FREE_FORM_ROLES] == [
        OwnTemplates().of(each) for each in FREE_FORM_ROLES
    ]


def test_its_text_is_what_the_model_gets(tmp_path: Path) -> None:
    text = PACKAGED["generator"].replace("You rewrite", "Thou rewritest")
    config = load_config(project(tmp_path, "generator", text))
    style = make_style("free-form", config.reasoning, lambda _: Capable())
    assert style.system_prompt(Instruction(text="Paint it red.")).startswith("Thou rewritest")


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("generator", ("<instruction>", "")),
        ("generator", ("<painter>", "<paintr>")),
        ("generator", ("version = 1", "verson = 1")),
        ("generator", ("system =", "system")),
        ("gradient", ("improvements", "changes")),
        ("modifier", ("<operator>", "")),
        ("modifier", ("condense =", "condensed =")),
        ("modifier", ('explore = "', 'explore = "<painter> ')),
    ],
)
def test_what_is_wrong_is_refused_before_a_run(
    role: str, change: tuple[str, str], tmp_path: Path
) -> None:
    text = re.sub(r"version = \d+", "version = 1", PACKAGED[role])
    assert change[0] in text
    path = project(tmp_path, role, text.replace(*change))
    with pytest.raises(ConfigError, match=f"templates.*{role}.toml"):
        load_config(path)


def test_a_folder_without_templates_or_with_other_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bigpe.toml"
    path.write_text(PROJECT)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)
    (tmp_path / "own").mkdir()
    with pytest.raises(ConfigError, match="holds none of"):
        load_config(path)
    project(tmp_path, "generatr", PACKAGED["generator"])
    with pytest.raises(ConfigError, match="generatr.toml is none of"):
        load_config(path)


def test_the_evidence_worded_style_refuses_them(tmp_path: Path) -> None:
    evidence = PROJECT.replace("free-form", "evidence-worded")
    config = load_config(project(tmp_path, "generator", PACKAGED["generator"], evidence))
    with pytest.raises(ConfigError, match="templates"):
        style_of_config(config)


def test_the_check_names_the_files_and_another_text_needs_a_fork(tmp_path: Path) -> None:
    path = project(tmp_path, "generator", PACKAGED["generator"])
    result = CliRunner().invoke(cli, ["config", "check", "-p", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "generator.toml" in result.stdout
    assert "You rewrite short picture prompts" not in result.stdout
    before = load_config(path)
    project(tmp_path, "generator", PACKAGED["generator"].replace("You rewrite", "Rewrite"))
    changes = compare(before, load_config(path))
    assert [change.key for change in changes] == ["reasoning.templates.generator"]
    with pytest.raises(ConfigError, match="needs a fork"):
        require_allowed("main", changes)
