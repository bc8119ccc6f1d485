"""`bigpe publish` and `bigpe refine --from`: an instruction handed on, by folder and by Hub."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import ModelCard
from support.fake_hub import TOKEN, FakeHub

import bigpe
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.runtime.cli import cli
from bigpe.runtime.evaluation.pipeline import EvaluationSettings, evaluate
from bigpe.runtime.project.config import BigpeConfig
from bigpe.runtime.sharing.hub import load_instruction
from bigpe.runtime.sharing.published_instruction import LARGEST, read_published
from bigpe.services.core.errors import ConfigError, DataError, ServiceError
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import CONFIG, open_fake_evaluated, run_fake

RULES = {"constraints": {"banned": ["murky"]}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished and evaluated run."""
    folder = tmp_path_factory.mktemp("project")

    async def make() -> None:
        await run_fake(folder, CONFIG | RULES)
        async with open_fake_evaluated(folder) as judged:
            await evaluate(judged, EvaluationSettings(prompts=6), lambda progress: None)

    asyncio.run(make())
    return folder


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does when huggingface_hub is imported."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[FakeHub]:
    server = FakeHub()
    point_at(server.url, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def published(project: Path, folder: Path, *words: str) -> Path:
    done = run("publish", "-p", str(project), "--to", str(folder), *words)
    assert done.exit_code == 0, done.output
    return folder


def changed(folder: Path, **fields: Any) -> Path:
    path = folder / "instruction.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_a_folder_holds_the_chosen_instruction_and_its_evidence(
    project: Path, tmp_path: Path
) -> None:
    found = read_published(published(project, tmp_path, "--licence", "cc0-1.0"))
    assert found.evaluation is not None and found.licence == "cc0-1.0"
    assert found.evaluation.prompts == 6 and found.evaluation.gain.n == 6
    assert found.constraints == Constraints(banned=("murky",))
    assert found.training.pulls > 0 and found.models.scorer_fingerprint
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc0-1.0"  # pyright: ignore[reportAttributeAccessIssue]
    (result, *_) = card.data.eval_results or []  # pyright: ignore[reportAttributeAccessIssue]
    assert result.metric_value == pytest.approx(100 * found.evaluation.gain.mean, abs=1e-3)
    assert "which no pull and no choice has seen" in card.text
    again = (tmp_path / "README.md").read_bytes()
    published(project, tmp_path, "--licence", "cc0-1.0")
    assert (tmp_path / "README.md").read_bytes() == again


def test_a_run_that_was_not_evaluated_says_so(tmp_path: Path) -> None:
    asyncio.run(run_fake(tmp_path / "p"))
    done = run("publish", "-p", str(tmp_path / "p"), "--to", str(tmp_path / "out"))
    assert done.exit_code == 0 and "not evaluated" in done.stderr
    assert read_published(tmp_path / "out").evaluation is None
    card = ModelCard.load(tmp_path / "out/README.md")
    assert "was not evaluated on held-out prompts" in card.text and not card.data.eval_results  # pyright: ignore[reportAttributeAccessIssue]


def test_no_readme_of_something_else_is_overwritten(project: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="belongs to another project"):
        cli(
            ["publish", "-p", str(project), "--to", str(tmp_path)],
            standalone_mode=False,
        )
    assert (tmp_path / "README.md").read_text() == "mine"


def test_addresses_and_keys_are_not_handed_on() -> None:
    from bigpe.runtime.sharing.published_instruction import llm_name

    config = {"model": "gpt-x", "base_url": "http://10.0.0.1/v1"}
    llm = {"provider": "autogen_ext.models.openai.OpenAIChatCompletionClient", "config": config}
    assert llm_name(BigpeConfig.model_validate({"llm": {"default": llm}})) == "gpt-x"
    own = {"config": {"path": "/home/somebody/secret/tiny.gguf"}}
    assert llm_name(BigpeConfig.model_validate({"llm": {"default": own}})) == "tiny.gguf"


def test_refine_takes_it_with_its_rules(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigpe.runtime.sharing.refine.load_client", lambda config: FakeLlm())
    folder = published(project, tmp_path / "out")
    words = ("refine", "-p", str(tmp_path), "--from", str(folder), "a red fox", "--json")
    (row,) = json.loads(run(*words).stdout)
    assert row["text"].startswith("a red fox,") and row["refined"]
    messages = row["text"].rpartition(" ")[2]
    (tmp_path / "bigpe.toml").write_text(f'[constraints]\nbanned = ["{messages}"]\n')
    (row,) = json.loads(run(*words).stdout)
    assert messages not in row["text"], "the folder's own rules hold too"
    assert bigpe.load_instruction(folder).instruction == read_published(folder).instruction


def test_rules_add_up() -> None:
    item = Constraints(max_tokens=70, required=("a",), script="latin")
    other = Constraints(max_tokens=60, required=("a", "b"), banned=("c",), script="ascii")
    both = item.and_also(other)
    assert (both.max_tokens, both.required, both.banned) == (60, ("a", "b"), ("c",))
    assert both.script == "ascii" and Constraints().and_also(item) == item


BAD: list[tuple[dict[str, Any], str]] = [
    ({"schema_version": 2}, "install a newer bigpe"),
    ({"schema_version": "1; import os"}, "schema_version '1; import os', not 1"),
    ({"id": "0" * 64}, "the text was changed"),
    ({"instruction": {"text": "Obey me."}}, "the text was changed"),
    ({"constraints": {"banned_file": "/etc/passwd"}}, "cannot be published"),
    ({"surprise": 1}, "surprise"),
]


@pytest.mark.parametrize(("fields", "expected"), BAD, ids=[result for _, result in BAD])
def test_what_is_not_understood_is_refused(
    project: Path, tmp_path: Path, fields: dict[str, Any], expected: str
) -> None:
    with pytest.raises(DataError, match=".*") as failed:
        load_instruction(changed(published(project, tmp_path), **fields))
    assert expected in str(failed.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "instruction.json"
    for content, expected in (
        (None, "there is no"),
        (b"\x80\x04pickle", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "schema_version None"),
        (b" " * (LARGEST + 1), "larger than"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=expected):
            load_instruction(tmp_path)


def test_to_the_hub_and_back(project: Path, hub: FakeHub) -> None:
    words = ("publish", "-p", str(project), "--to", "hf://me/mine", "--private", "--json")
    for _ in range(2):  # a repository that is there is written to
        done = run(*words)
        assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["written"] == [f"{hub.url}/me/mine"] and hub.private["me/mine"]
    assert set(hub.repos["me/mine"]) == {"instruction.json", "README.md"}
    assert hub.commits == 2 * [f"Publish instruction {result['id'][:8]}"]
    assert b"bigpe refine --from hf://me/mine" in hub.repos["me/mine"]["README.md"]
    found = load_instruction("hf://me/mine")
    assert found.id == result["id"] and found.evaluation is not None


def test_the_hubs_failures_are_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["me/bare"] = {"README.md": b"#"}
    hub.repos["me/large"] = {"instruction.json": b" " * (LARGEST + 1)}
    for place, expected in (
        ("hf://me/none", "there is no repository me/none that you may read"),
        ("hf://me/bare", "it holds no instruction"),
        ("hf://me/bare@v9", "no revision 'v9'"),
        ("hf://me/large", "it is not an instruction"),
    ):
        with pytest.raises(DataError, match=expected):
            load_instruction(place)
    for place in ("hf://me", "hf://a/b/c", "hf://me/bad name"):
        with pytest.raises(ConfigError):
            load_instruction(place)
    hub.broken = 403
    with pytest.raises(ServiceError, match="log in with a token"):
        load_instruction("hf://me/bare")
    point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(ServiceError, match="cannot be reached"):
        load_instruction("hf://me/bare")


def test_without_a_token_nothing_is_published(
    project: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ServiceError, match="hf auth login"):
        cli(["publish", "-p", str(project), "--to", "hf://me/mine"], standalone_mode=False)


def test_hf_endpoint_names_another_hub(project: Path, hub: FakeHub, tmp_path: Path) -> None:
    """As a user has it: from the environment, in a process of its own."""
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-P", "-m", "bigpe", "publish", "-p", str(project)]
    done = subprocess.run(
        [*command, "--to", "hf://me/mine"],
        env=env, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == f"{hub.url}/me/mine" and "instruction.json" in hub.repos["me/mine"]
    )
