"""A whole run whose rewrites have negative prompts, on fakes, and what is shown of it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmarks.browser import pages_of
from click.testing import CliRunner
from support.terminal_text import terminal_lines

from bigpe.agents.messages.core import (
    ArmPulled,
    CritiqueRequested,
    ImageRendered,
    PromptsRewritten,
    RenderRequested,
)
from bigpe.runtime.cli import cli
from bigpe.runtime.cli.project.config import check
from bigpe.runtime.evaluation.measure import measure, under
from bigpe.runtime.project.paths import Project
from bigpe.runtime.sharing.files import write_comparisons
from bigpe.runtime.sharing.published_instruction import read_published
from bigpe.runtime.sharing.refine import Refiner
from bigpe.runtime.transcript.describing.messages import describe
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction
from bigpe.services.store.blobs import BlobStore
from bigpe.services.store.database import Store
from bigpe.testing.fake_images import BAD_WORDS, FakeRenderer
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.runs import (
    CONFIG,
    messages_of,
    open_fake,
    open_fake_evaluated,
    repeated_calls,
    run_fake,
)


def config(**prompt: Any) -> dict[str, Any]:
    return {
        "run": {**CONFIG["run"], "rounds": 4},
        "llm": {"default": {"provider": "openai", "model": "fake", "base_url": "http://localhost"}},
        "render": {"prompt": {"negative": True, **prompt}},
    }


def reasoner(folder: Path) -> FakeReasoner:
    return FakeReasoner(log=folder / "calls.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("negatives")
    asyncio.run(run_fake(folder, config(), llm=reasoner(folder)))
    return folder


def test_rewrites_are_pairs_and_naive_pictures_have_none(folder: Path) -> None:
    rewrites = [r for m in messages_of(folder, PromptsRewritten) for r in m.rewrites]
    assert rewrites and all(r.negative in BAD_WORDS for r in rewrites)
    for message in (*messages_of(folder, RenderRequested), *messages_of(folder, ImageRendered)):
        assert bool(message.negative) == (message.purpose == "rewrite")
        assert ("negative" in message.model_dump()) == bool(message.negative)
    assert repeated_calls(folder) == 0


def test_the_gradient_calculator_reads_both(folder: Path) -> None:
    studies = [m.study for m in messages_of(folder, CritiqueRequested) if m.study]
    assert studies and all(gain.negative for study in studies for gain in study.batch)
    log = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    gradients = [call[1][-1] for call in log if call[0] == "llm" and '"improvements"' in call[1][0]]
    assert gradients and all("[negative prompt: " in text for text in gradients)


async def test_terminal_export_and_pages_show_both(folder: Path) -> None:
    pulled = messages_of(folder, ArmPulled)[0]
    negative = pulled.gains[0].negative
    for message in (messages_of(folder, PromptsRewritten)[0], pulled):
        lines = terminal_lines(describe(message))
        assert any("without" in line and negative in line for line in lines)
    async with Store(Project(folder).database) as store:
        await write_comparisons(store, "main", folder / "comparisons.parquet")
    column: Any = pq.read_table(folder / "comparisons.parquet").column("negative")
    assert set(column.to_pylist()) <= set(BAD_WORDS)
    async with pages_of(folder) as served:
        for place in ("gallery", f"message/{pulled.mid}"):
            page = (await served.get(place)).text
            assert re.search(
                rf'without ?</span> ?<span class="prompt">{re.escape(negative)}</span>', page
            )


async def test_refine_and_evaluations_have_both(folder: Path) -> None:
    instruction = Instruction(text="Give it a golden look.")
    async with open_fake(folder, config(), llm=reasoner(folder)) as session:
        settings = session.config
    async with Refiner.open(instruction, settings, client=FakeReasoner()) as refiner:
        assert (await refiner.rewrite("a fox")).negative in BAD_WORDS
    async with open_fake_evaluated(folder, llm=reasoner(folder)) as run:
        [row] = await measure(run.services, under(instruction, "golden"), run.prompts("test")[:1])
    assert row.negative in BAD_WORDS
    assert row.gain is not None and row.image != row.naive_image


def test_a_published_instruction_says_that_a_rewrite_is_a_pair(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigpe.runtime.sharing.refine.load_client", lambda config: FakeReasoner())
    place = tmp_path / "published"

    def invoke(*words: str) -> Any:
        done = CliRunner().invoke(cli, words)
        assert done.exception is None, done.output
        return done

    invoke("publish", "-p", str(folder), "--to", str(place))
    found = read_published(place)
    assert (found.form, found.negative) == ("tags", True)
    assert (
        "comma-separated tags, and a negative prompt beside it" in (place / "README.md").read_text()
    )
    exported = json.loads(invoke("export", "-p", str(folder), "--system-prompt", "--json").stdout)
    assert (exported["form"], exported["negative"]) == ("tags", True)
    refine = ("refine", "-p", str(tmp_path), "--from", str(place), "a red fox")
    assert "the model that rewrites here writes none" in invoke(*refine).stderr
    (tmp_path / "bigpe.toml").write_text(CHECKED.partition("[render.prompt]")[0])
    (row,) = json.loads(invoke(*refine, "--json").stdout)
    assert row["negative"] in BAD_WORDS
    plain = invoke(*refine)
    assert plain.stdout.count("\n") == 1 and "--jsonl" in plain.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"reasoning": {"style": "evidence-worded"}},
        {"llm": {"default": {}}},
        {"llm": {"default": {}}, "render": {"prompt": {"triggers": ["ohwx"]}}},
        {"llm": {"default": {}}, "render": {"prompt": {"language": "German"}}},
    ],
    ids=str,
)
async def test_settings_without_effect_open_no_run(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[render\.prompt\]"):
        async with open_fake(tmp_path, config() | changes, llm=FakeReasoner()):
            pass


async def test_a_renderer_that_ignores_negative_prompts_opens_no_run(tmp_path: Path) -> None:
    renderer = FakeRenderer(BlobStore(tmp_path))
    renderer.takes_negative = False
    with pytest.raises(ConfigError, match="takes_negative"):
        async with open_fake(tmp_path, config(), llm=FakeReasoner(), renderer=renderer):
            pass


CHECKED = """
[llm.default]
provider = "openai"
model = "fake"
base_url = "http://localhost"

[render.prompt]
negative = true
"""


def test_config_check_shows_the_profile_and_refuses_what_has_no_effect(tmp_path: Path) -> None:
    def checked(text: str) -> Any:
        (tmp_path / "bigpe.toml").write_text(text)
        return CliRunner().invoke(check, ["-p", str(tmp_path), "--json"])

    found = json.loads(checked(CHECKED).output)
    assert found["style"] == "free-form"
    assert (found["painter"]["form"], found["painter"]["max_tokens"]) == ("tags", 75)
    assert "negative prompt" in found["painter"]["described"]
    assert found["scorer"].endswith("Higher is better.")
    for text in (f"{CHECKED}\n[render]\nguidance = 0\n", "[render.prompt]\nnegative = true\n"):
        assert isinstance(checked(text).exception, ConfigError)
