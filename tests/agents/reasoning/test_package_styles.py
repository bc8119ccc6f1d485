"""A reasoning style of another package, found by its entry point, drives a whole run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.plugin_packages import installed

from bigpe.agents.messages.core import InstructionsProposed, PromptsRewritten, RunStarted
from bigpe.runtime.cli import cli
from bigpe.runtime.project.config import check_config
from bigpe.runtime.run.style import UncalledLlm, style_of, style_of_config
from bigpe.services.core.errors import ConfigError
from bigpe.testing.runs import messages_of, open_fake, run_fake, transcript

CODE = '''
from bigpe.agents.reasoning.interface import Proposal, Proposed, WordedGradient
from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.services.core.values import Instruction

class Suffix:
    """An instruction is what a rewrite ends with."""
    name = "suffix"
    def __init__(self, context):
        self.word = context.options["word"]
    def system_prompt(self, instruction):
        return f"End with: {instruction.text}"
    async def rewrite(self, llm, instruction, naive, seed):
        return Rewrite(naive=naive, text=f"{naive}, {instruction.text}" if instruction else naive)
    async def explain(self, llm, request, *, sees):
        found = {"inference": "too short", "improvement": f"add {self.word}", "evidence": ()}
        return [WordedGradient(**found, composed=False)]
    async def propose(self, llm, request, retrieve):
        longer = Instruction(text=f"{request.instruction.text} {self.word}")
        proposal = Proposal(instruction=longer, composed=False)
        return [Proposed(gradient, proposal) for gradient in request.gradients]

class Nameless(Suffix):
    name = "other"

def number(context):
    return 3
'''
OFFERS = {
    "reasoning_styles": {
        "suffix": "endings:Suffix",
        "gone": "endings:Nobody",
        "nameless": "endings:Nameless",
        "number": "endings:number",
    }
}
REASONING: dict[str, Any] = {"style": "suffix", "options": {"word": "vivid"}}
CONFIG: dict[str, Any] = {
    "run": {"rounds": 3, "batch_size": 2, "pilot_prompts": 2},
    "reasoning": REASONING,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = installed(tmp_path / "site", "endings", {"endings.py": CODE}, OFFERS)
    monkeypatch.syspath_prepend(folder)
    return folder


async def test_a_style_of_another_package_drives_a_run(package: Path, tmp_path: Path) -> None:
    await run_fake(tmp_path / "p", CONFIG)
    (started,) = messages_of(tmp_path / "p", RunStarted)
    assert (started.plan.style, started.plan.style_package) == ("suffix", "endings 1.0")
    proposed = messages_of(tmp_path / "p", InstructionsProposed)
    texts = [p.instruction.text for message in proposed for p in message.proposals]
    assert texts and all(text.endswith(" vivid") for text in texts), "its option was heard"
    rewrites = [
        r for message in messages_of(tmp_path / "p", PromptsRewritten) for r in message.rewrites
    ]
    assert all(r.text.startswith(f"{r.naive}, ") for r in rewrites)
    await run_fake(tmp_path / "again", CONFIG)
    assert transcript(tmp_path / "p") == transcript(tmp_path / "again")


async def test_a_run_keeps_the_version_of_its_style(package: Path, tmp_path: Path) -> None:
    async with open_fake(tmp_path / "p", CONFIG):
        pass
    info = package / "endings-1.0.dist-info"
    metadata = info / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    info.rename(package / "endings-1.1.dist-info")
    with pytest.raises(ConfigError, match=r'package: "endings 1.0" -> "endings 1.1"'):
        await run_fake(tmp_path / "p", CONFIG)


def test_the_check_shows_the_style_and_the_list_its_package(package: Path, tmp_path: Path) -> None:
    text = '[reasoning]\nstyle = "suffix"\n[reasoning.options]\nword = "vivid"\n'
    (tmp_path / "bigpe.toml").write_text(text)
    runner = CliRunner()
    done = runner.invoke(cli, ["config", "check", "-p", str(tmp_path), "--json"])
    found = json.loads(done.stdout)
    assert (found["style"], found["style_package"]) == ("suffix", "endings 1.0")
    assert (
        "suffix of endings 1.0"
        in runner.invoke(cli, ["config", "check", "-p", str(tmp_path)]).stdout
    )
    rows = json.loads(runner.invoke(cli, ["reasoning-styles", "list", "--json"]).stdout)
    summaries = {row["name"]: row["summary"] for row in rows}
    assert summaries["suffix"] == "An instruction is what a rewrite ends with."
    assert {"evidence-worded", "free-form"} < summaries.keys()
    shutil.rmtree(package)
    assert runner.invoke(
        cli, ["config", "check", "-p", str(tmp_path)], standalone_mode=False
    ).exception


@pytest.mark.parametrize(
    ("reasoning", "cause"),
    [
        ({"style": "gone"}, "cannot be loaded"),
        ({"style": "nameless", "options": {"word": "a"}}, "calls itself 'other'"),
        ({"style": "number"}, "makes a int, which lacks"),
        ({"style": "suffix"}, "cannot be made: KeyError"),
    ],
)
def test_a_broken_style_is_an_error_of_the_configuration(
    package: Path, reasoning: dict[str, Any], cause: str
) -> None:
    config = check_config({"reasoning": reasoning}, where="here")
    with pytest.raises(ConfigError, match=cause):
        style_of(config, lambda _: UncalledLlm())


def test_an_unknown_style_and_idle_settings_are_refused(package: Path) -> None:
    with pytest.raises(ConfigError, match=r"reasoning\.style: there is no 'best'.*suffix"):
        check_config({"reasoning": {"style": "best"}}, where="here")
    with pytest.raises(ConfigError, match=r"\[reasoning.options\]: without effect"):
        style_of_config(check_config({"reasoning": {"options": {"word": "a"}}}, where="here"))
    own = check_config({"reasoning": REASONING, "render": {"prompt": {"max_words": 9}}}, where="x")
    assert style_of_config(own) == "suffix"
