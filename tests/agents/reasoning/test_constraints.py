"""What [constraints] forbids is neither rewritten nor proposed; what it requires is there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import evidence_row
from support.llm_stubs import ScriptedAsks
from support.plugin_packages import installed

from bigpe.agents.evidence.terms import contains_term
from bigpe.agents.messages.core import (
    Gradient,
    InstructionsProposed,
    PoolChanged,
    PromptsRewritten,
    parse_message,
)
from bigpe.agents.reasoning.constraints import Constraints
from bigpe.agents.reasoning.evidence_worded.clause_plan import clauses_of
from bigpe.agents.reasoning.evidence_worded.instruction import propose
from bigpe.agents.reasoning.interface import Proposal, Rejection
from bigpe.agents.reasoning.rewriting import rewrite
from bigpe.runtime.project.config import BigpeConfig, load_config
from bigpe.runtime.run.session import Session
from bigpe.runtime.sharing.refine import refine_fully
from bigpe.runtime.transcript.search import Wanted, every
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Exemplar, Instruction
from bigpe.services.store.database import Store
from bigpe.testing.fakes import FakeLlm
from bigpe.testing.runs import CONFIG, run_fake

PLAIN = Instruction(text="Add details.")
CHECKS: list[tuple[dict[str, Any], str, str | None]] = [
    ({}, "a fox, by Greg Rutkowski, кот", None),
    ({"banned": ["trending on artstation"]}, "a fox, Trending  on ArtStation!", "trending on art"),
    ({"banned": ["art"]}, "a fox, artful", None),
    ({"banned": ["gore", "blood"]}, "a fox, blood and gore", "gore, blood"),
    ({"artists": ["Łukasz Żal"]}, "a fox, in the style of łukasz żal", "Łukasz Żal"),
    ({"artists": ["Żal"]}, "a fox, zal", None),
    ({"required": ["soft light"]}, "a fox, hard light", "soft light"),
    ({"required": ["soft light"]}, "a fox, in soft light", None),
    ({"max_tokens": 6}, "a red fox in snow, film", "7 tokens, more than the 6"),
    ({"max_tokens": 7}, "a red fox in snow, film", None),
    ({"script": "latin"}, "a façade — naïve, 35 mm, ½", None),
    ({"script": "latin"}, "a fox, кот", "'к'"),
    ({"script": "ascii"}, "a façade", "'ç'"),
]


@pytest.mark.parametrize(("rules", "text", "fault"), CHECKS, ids=str)
def test_a_rewrite_is_held_to_the_rules(
    rules: dict[str, Any], text: str, fault: str | None
) -> None:
    found = Constraints.model_validate(rules).rewrite_violation(text)
    assert found is None if fault is None else found is not None and fault in found


@given(text=st.text(max_size=80), banned=st.sampled_from(["cat", "golden hour", "ß", "35mm"]))
def test_no_text_with_a_banned_word_passes(text: str, banned: str) -> None:
    rules = Constraints(banned=(banned,))
    assert (rules.fault(text) is not None) == contains_term(text, banned)
    assert rules.fault(f"{text} , {banned.upper()} , {text}") is not None


async def test_a_refused_rewrite_is_asked_for_again_and_then_the_naive_prompt_stands() -> None:
    rules = Constraints(banned=("neon",))
    llm = ScriptedAsks("a red fox, neon glow", "a red fox, soft glow")
    done = await rewrite(llm, PLAIN, "a red fox", 5, rules)
    assert (done.text, done.attempts, done.fallback) == ("a red fox, soft glow", 2, None)
    done = await rewrite(
        ScriptedAsks("a red fox, neon", forever=True), PLAIN, "a red fox", 5, rules
    )
    assert done.text == "a red fox"
    assert done.fallback == "it says what [constraints] forbids (banned: neon)"


# -- proposals ------------------------------------------------------------------------------------


async def proposed(
    rules: Constraints, *answers: str, avoid: str = "gravel"
) -> Proposal | Rejection:
    rows = (
        evidence_row("golden hour", 0.01, "E1"),
        evidence_row("moss", 0.005, "E2"),
        evidence_row(avoid, -0.01, "E3"),
    )
    gradient = Gradient(
        inference="x", improvement="Add it.", evidence=("E1", "E2", "E3"), composed=False
    )
    exemplars = (
        Exemplar(naive="a hat", rewrite="a hat, felt"),
        Exemplar(naive="the lamp", rewrite="the lamp, brass"),
    )
    return await propose(
        ScriptedAsks(*(answers or ("no JSON",)), forever=True),
        gradient,
        rows,
        parent=Instruction(text="Add details.", exemplars=exemplars),
        professional=[],
        pairs=(),
        living=(),
        batch_prompts=(),
        seed=1,
        constraints=rules,
    )


async def test_a_proposal_leaves_out_what_is_forbidden() -> None:
    free = await proposed(Constraints())
    assert isinstance(free, Proposal) and "golden hour" in free.instruction.text
    bound = await proposed(Constraints(banned=("golden",)))
    assert isinstance(bound, Proposal)
    result = bound.instruction.model_dump_json()
    assert "golden" not in result and "moss" in result
    # To name a banned word, if only to leave it out, is to say it.
    silent = await proposed(Constraints(banned=("gravel",)))
    assert isinstance(silent, Proposal) and "gravel" not in silent.instruction.text


async def test_a_models_wording_that_says_the_forbidden_is_not_taken() -> None:
    worded = '{"instruction": "Add details, with golden hour and moss, neon, and no gravel."}'
    free = await proposed(Constraints(), worded)
    assert isinstance(free, Proposal) and not free.composed
    bound = await proposed(Constraints(artists=("neon",)), worded)
    assert isinstance(bound, Proposal) and bound.composed
    assert "neon" not in bound.instruction.text


async def test_what_is_required_is_asked_for() -> None:
    bound = await proposed(Constraints(required=("soft light",)))
    assert isinstance(bound, Proposal)
    assert "soft light" in bound.instruction.text
    assert "soft light" in clauses_of(bound.instruction)


async def test_a_base_that_says_the_forbidden_leaves_nothing_to_propose() -> None:
    none = await proposed(Constraints(banned=("details",)))
    assert isinstance(none, Rejection)
    assert any("forbids (banned: details)" in reason for reason in none.reasons)


# -- a whole run ----------------------------------------------------------------------------------


def test_a_run_keeps_to_its_rules(tmp_path: Path) -> None:
    """The fake model says "murky" and "vivid" of its own accord; the fake scorer likes "vivid"."""
    rules = Constraints(banned=("vivid", "murky"))
    config = CONFIG | {"constraints": {"banned": ["vivid", "murky"]}}
    asyncio.run(run_fake(tmp_path, config))

    async def stored_messages() -> list[Any]:
        async with Store(tmp_path / "bigpe.db", read_only=True) as store:
            return [parse_message(row.body) async for row in every(store, "main", Wanted())]

    messages = asyncio.run(stored_messages())
    rewrites = [r for m in messages if isinstance(m, PromptsRewritten) for r in m.rewrites]
    assert rewrites and all(rules.fault(r.text) is None for r in rewrites)
    assert sum(r.attempts > 1 for r in rewrites) > 0
    proposals = [p for m in messages if isinstance(m, InstructionsProposed) for p in m.proposals]
    admitted = [i for m in messages if isinstance(m, PoolChanged) for i in m.admitted]
    for instruction in [*(p.instruction for p in proposals), *admitted]:
        assert rules.fault_of_instruction(instruction) is None


async def test_refine_keeps_to_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigpe.runtime.sharing.refine.load_client", lambda config: FakeLlm())
    config = BigpeConfig(constraints=Constraints(required=("never said",)))
    hat = Exemplar(naive="a hat", rewrite="a hat, felt")
    with_exemplar = Instruction(text="Add details.", exemplars=(hat,))
    done = await refine_fully(["a red fox"], instruction=with_exemplar, config=config)
    assert done[0].text == "a red fox"
    assert done[0].fallback == "it lacks what [constraints] requires (never said)"


# -- the configuration ----------------------------------------------------------------------------


def toml(folder: Path, text: str) -> Path:
    (path := folder / "bigpe.toml").write_text(text, "utf-8")
    return path


def test_word_files_are_read_with_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# not these\n\ngore \n blood  # red\ngore\n", "utf-8")
    path = toml(tmp_path, '[constraints]\nbanned = ["neon"]\nbanned_file = "words.txt"\n')
    rules = load_config(path).constraints
    assert rules.banned == ("neon", "gore", "blood") and rules.banned_file is None


async def test_a_run_remembers_the_words_not_the_file(tmp_path: Path) -> None:
    """So a file that changes is a changed configuration, and resuming needs no file."""
    from bigpe.testing.runs import open_fake, run_fake

    words = tmp_path / "words.txt"
    words.write_text("gore", "utf-8")
    config = CONFIG | {"constraints": {"banned_file": "words.txt"}}
    await run_fake(tmp_path, config)  # without a result, the run would begin again
    async with open_fake(tmp_path, config) as session:
        assert session.config.constraints.banned == ("gore",)
    words.write_text("gore\nneon", "utf-8")
    with pytest.raises(ConfigError, match=r"constraints\.banned"):
        async with open_fake(tmp_path, config):
            pass
    words.unlink()
    async with Session.open("main", None, project=tmp_path) as session:
        assert session.config.constraints.banned == ("gore",)


BAD = {
    "[constraints]\nbanned = ['!!']\n": "has no word in it",
    "[constraints]\nbaned = ['x']\n": "line 2: unknown key 'constraints.baned'",
    "[constraints]\nbanned_file = 'nowhere.txt'\n": "nowhere.txt",
    "[constraints]\nscript = 'greek'\n": "line 2",
    "[constraints]\nsafety = 'nobody'\n": "no installed package offers 'nobody'",
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=str)
def test_a_wrong_rule_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=".*") as failed:
        load_config(toml(tmp_path, text))
    assert expected in str(failed.value)


def test_a_safety_filter_of_an_installed_package_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "def no_knives(text):\n"
        "    if 'fail' in text: raise KeyError(text)\n"
        "    return 'it is of knives' if 'knife' in text else None\n"
    )
    offers = {"safety": {"knives": "kitchen:no_knives"}}
    folder = installed(tmp_path / "site", "kitchen", {"kitchen.py": code}, offers)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    rules = load_config(toml(tmp_path, "[constraints]\nsafety = 'knives'\n")).constraints
    assert rules.rewrite_violation("a fox with a knife") == (
        "the safety filter knives refuses it: it is of knives"
    )
    assert rules.rewrite_violation("a fox") is None
    with pytest.raises(ConfigError, match="safety filter 'knives' failed"):
        rules.fault("fail")
