"""The configuration file: what is packaged and shown is valid, and mistakes are found by line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from support.paths import ROOT

from bigpe.runtime.project.config import BigpeConfig, check_config, find_line, load_config
from bigpe.runtime.run.resume.setting_changes import Change, compare, marked_verdict
from bigpe.services.core.after_start import AfterStart
from bigpe.services.core.errors import ConfigError

PACKAGED = ("embedded.toml", "sdxl_turbo.toml")


def packaged(name: str) -> str:
    return (files("bigpe.prompts") / "project_templates" / name).read_text("utf-8")


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_files_are_valid(name: str) -> None:
    text = packaged(name)
    config = check_config(tomllib.loads(text), where=name, text=text)
    assert config.policy.name == "auto"


def test_the_readme_shows_the_sdxl_turbo_file_whole() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks == [packaged("sdxl_turbo.toml")]


def test_the_demo_is_what_the_readme_promises() -> None:
    name = "embedded.toml"
    config = check_config(tomllib.loads(packaged(name)), where=name)
    assert (config.run.batch_size, config.run.pool_size, config.policy.name) == (5, 4, "auto")
    assert config.run.rounds >= 8


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "bigpe.toml"
    file.write_text('[constraints]\nbanned_file = "words.txt"\n', encoding="utf-8-sig")
    (tmp_path / "words.txt").write_text("neon\n", encoding="utf-8-sig")
    assert load_config(file).constraints.banned == ("neon",)
    file.write_bytes("[run]\n# für\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 2: byte 0xfc is not UTF-8"):
        load_config(file)


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bigpe.toml"
    file.write_text("[run]\nround = 3\n\n[render]\nsteps = 0\n\n[budget]\nrenders = -1\n")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert f"{file}, line 2: unknown key 'run.round'" in lines[0] + lines[1] + lines[2]
    assert any("line 5: render.steps" in line for line in lines)
    assert any("line 8: budget.renders" in line for line in lines)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bigpe.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="line 1: byte 0xff is not UTF-8"):
        load_config(tmp_path / "bigpe.toml")


def test_the_old_section_of_workers_is_an_unknown_key(tmp_path: Path) -> None:
    (tmp_path / "bigpe.toml").write_text('[pool]\nbackend = "ray"\n')
    with pytest.raises(ConfigError, match="line 1: unknown key 'pool'"):
        load_config(tmp_path / "bigpe.toml")


def test_the_differences_of_two_configurations_are_named() -> None:
    old = check_config({}, where="old")
    new = check_config({"run": {"rounds": 20}, "score": {"model": "x"}}, where="new")
    result = [str(change) for change in compare(old, new)]
    assert result == [
        f"run.rounds: {old.run.rounds} -> 20 (takes effect)",
        'score.model: "embedded" -> "x" (needs a fork)',
    ]
    assert compare(old, old) == []


def keys_below(kind: Any, key: str) -> Iterator[str]:
    """Every key that `flat_settings` can give for a value of this type; names are NAME."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from keys_below(field.annotation, f"{key}.{field.alias or name}".lstrip("."))
    elif get_origin(kind) is dict:
        yield from keys_below(get_args(kind)[1], f"{key}.NAME")
    elif get_origin(kind) in (Union, UnionType):
        for item in get_args(kind):
            yield from keys_below(item, key)
    else:
        yield key


SETTINGS = sorted(set(keys_below(BigpeConfig, "")))


def test_of_every_setting_it_is_decided_whether_it_may_change() -> None:
    """A new setting fails here until its field, or its section, has a marker."""
    assert {"run.seed", "roles.NAME.class", "prices.llm.NAME.prompt"} < set(SETTINGS)
    assert [key for key in SETTINGS if marked_verdict(key) is None] == []


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        ("budget.renders", AfterStart.TAKES_EFFECT),
        ("prices.llm.generator.prompt", AfterStart.TAKES_EFFECT),
        ("run.rounds", AfterStart.TAKES_EFFECT),
        ("run.seed", AfterStart.NEEDS_FORK),
        ("llm.default.timeout_s", AfterStart.CHANGES_NO_RESULT),
        # A setting of the model client itself, which its answers may depend on.
        ("llm.default.config.timeout_s", AfterStart.NEEDS_FORK),
        ("render.http.urls", AfterStart.IF_SAME_MODEL),
        ("render.http.extra.style", AfterStart.NEEDS_FORK),
        ("render.threads", AfterStart.NEEDS_FORK),
        ("score.http.max_mb", AfterStart.CHANGES_NO_RESULT),
        ("score.guard", AfterStart.NEEDS_FORK),
        ("workers.render.max", AfterStart.IF_SAME_MODEL),
        ("roles.watcher.allow", AfterStart.CHANGES_NO_RESULT),
        ("roles.watcher.class", AfterStart.NEEDS_FORK),
        ("roles.watcher.agent.temperature", AfterStart.NEEDS_FORK),
        ("constraints.banned", AfterStart.NEEDS_FORK),
    ],
)
def test_the_verdict_is_that_of_the_innermost_marker(key: str, verdict: AfterStart) -> None:
    assert Change(key, None, 1).verdict is verdict


def test_a_setting_without_a_marker_needs_a_fork() -> None:
    assert marked_verdict("run.of_a_later_version") is None
    assert Change("run.of_a_later_version", None, 1).verdict is AfterStart.NEEDS_FORK


@given(st.integers(0, 20), st.sampled_from(["rounds", "seed", "batch_size"]))
def test_a_key_is_found_on_its_line_however_far_down(blank: int, key: str) -> None:
    text = "# rounds = 1\n[policy]\nseed = 1\n" + "\n" * blank + f"[ run ] # x\n  {key} = 7\n"
    assert find_line(text, ["run", key]) == text.splitlines().index(f"  {key} = 7") + 1
