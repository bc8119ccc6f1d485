"""Exemplars of the free-form style: which comparisons become some, and where they are shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.browser import pages_of
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from support.terminal_text import terminal_lines

from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.messages.core import InstructionsProposed, ProposalRequested, RunStarted
from bigpe.agents.reasoning.free_form.exemplars import as_answers, won_exemplars
from bigpe.runtime.cli import cli
from bigpe.runtime.project.config import check_config
from bigpe.runtime.run.style import style_of_config
from bigpe.runtime.transcript.describing.messages import describe
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.runs import CONFIG, messages_of, run_fake

LLM = {"default": {"provider": "openai", "model": "fake", "base_url": "http://localhost"}}


def config(exemplars: int, rounds: int = 6) -> dict[str, Any]:
    return {
        "run": {**CONFIG["run"], "rounds": rounds},
        "llm": LLM,
        "render": {"prompt": {"negative": True}},
        "reasoning": {"exemplars": exemplars},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exemplars")
    (folder / "seed.txt").write_text("Give it a blurry look.")
    llm = FakeReasoner(log=folder / "calls.jsonl")
    asyncio.run(run_fake(folder, config(2) | {"data": {"seeds": "seed.txt"}}, llm=llm))
    return folder


comparisons = st.builds(
    PairedComparison,
    naive=st.sampled_from(["a fox", "A fox.", "a boat", "a cat"]),
    rewrite=st.text("abc ", min_size=1),
    seed=st.integers(0, 3),
    gain=st.floats(-1, 1),
    arm=st.sampled_from(["a" * 64, "professional"]),
    fallback=st.booleans(),
)


@settings(max_examples=40)
@given(st.lists(comparisons, max_size=12), st.integers(0, 3))
def test_exemplars_are_the_highest_gains_of_different_prompts(
    pairs: list[PairedComparison], count: int
) -> None:
    found = won_exemplars(pairs, count)
    usable = [p for p in pairs if p.gain > 0 and not p.fallback and p.arm != "professional"]
    best: dict[str, float] = {}
    for pair in usable:
        best[spelled(pair)] = max(pair.gain, best.get(spelled(pair), 0.0))
    assert [best[spelled(exemplar)] for exemplar in found] == sorted(best.values())[::-1][:count]
    assert all(
        any((p.rewrite, p.gain) == (e.rewrite, best[spelled(e)]) for p in usable) for e in found
    )


def spelled(pair: PairedComparison | Exemplar) -> str:
    return pair.naive.lower().rstrip(".")


def test_the_exemplar_of_a_prompt_is_left_out_of_its_own_request() -> None:
    pair = Exemplar(naive="A fox", rewrite="a fox, golden", negative="blur")
    instruction = Instruction(text="Light.", exemplars=(pair,))
    assert as_answers(instruction, "a fox.", negative=True).exemplars == ()
    (pair,) = as_answers(instruction, "a boat", negative=True).exemplars
    assert pair.rewrite == "<prompt>a fox, golden</prompt>\n<negative>blur</negative>"
    (pair,) = as_answers(instruction, "a boat", negative=False).exemplars
    assert pair.rewrite == "<prompt>a fox, golden</prompt>"


def test_exemplars_without_a_negative_prompt_keep_their_ids() -> None:
    pair = Exemplar(naive="a", rewrite="a, b")
    assert pair.model_dump() == {"naive": "a", "rewrite": "a, b"}
    assert Instruction(text="x", exemplars=(pair.model_copy(update={"negative": "c"}),)).id != (
        Instruction(text="x", exemplars=(pair,)).id
    )


def test_proposals_have_the_comparisons_that_won(folder: Path) -> None:
    requests = {m.mid: m for m in messages_of(folder, ProposalRequested)}
    proposed = [(m, p) for m in messages_of(folder, InstructionsProposed) for p in m.proposals]
    assert proposed
    for message, proposal in proposed:
        won = won_exemplars(requests[message.parent].pairs, 2)
        assert proposal.instruction.exemplars == won
        assert won and all(exemplar.negative for exemplar in won)
        lines = "\n".join(terminal_lines(describe(message)))
        assert all(exemplar.negative in lines for exemplar in won)


def test_the_generator_gets_them_as_answers_but_never_that_of_its_prompt(folder: Path) -> None:
    (started,) = messages_of(folder, RunStarted)
    calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    requests = [call[1] for call in calls if call[0] == "llm" and len(call[1]) > 2]
    assert requests, "a child with exemplars was pulled"
    for _, *turns, naive in requests:
        prompts, answers = turns[::2], turns[1::2]
        assert naive not in prompts and set(prompts) <= set(started.plan.train)
        assert all(a.startswith("<prompt>") and a.endswith("</negative>") for a in answers)


async def page_of(folder: Path) -> str:
    async with pages_of(folder) as served:
        return (await served.get("lineage")).text


def test_agents_see_those_of_the_instruction(folder: Path) -> None:
    calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    users = [call[1][-1] for call in calls if call[0] == "llm"]
    title, modifier = "## Examples that come with it", "## The present instruction"
    for head in ("## The instruction", modifier):
        assert any(text.startswith(head) and title in text for text in users)


def test_people_see_them_with_the_best_instruction(folder: Path) -> None:
    best = CliRunner().invoke(cli, ["status", "-p", str(folder), "--best", "--json"])
    found = json.loads(best.stdout)["main"]
    pairs = [Exemplar.model_validate(pair) for pair in found["exemplars"]]
    assert len(pairs) == 2
    plain = CliRunner().invoke(cli, ["status", "-p", str(folder), "--best"]).stdout
    prompt = CliRunner().invoke(cli, ["export", "-p", str(folder), "--system-prompt"]).stdout
    place = folder / "published"
    CliRunner().invoke(cli, ["publish", "-p", str(folder), "--to", str(place)])
    published = json.loads((place / "instruction.json").read_text())["instruction"]
    assert published["exemplars"] == found["exemplars"]
    card = (place / "README.md").read_text()
    page = asyncio.run(page_of(folder))
    for pair in pairs:
        assert pair.line in plain and pair.line in prompt
        assert all(text in card and text in page for text in (pair.naive, pair.negative))


@pytest.mark.parametrize("style", ["auto", "evidence-worded"])
def test_exemplars_have_no_effect_in_the_evidence_worded_style(style: str) -> None:
    llm = {} if style == "auto" else {"llm": LLM}
    raw = {"reasoning": {"exemplars": 2, "style": style}, **llm}
    with pytest.raises(ConfigError, match=r"\[reasoning\] exemplars: without effect"):
        style_of_config(check_config(raw, where="here"))
