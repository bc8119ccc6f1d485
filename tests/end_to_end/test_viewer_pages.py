"""What the viewer's pages answer, held against the messages that the run stored."""

from __future__ import annotations

import asyncio
import json
import re
from html import unescape
from pathlib import Path

import pytest
from benchmarks.browser import pages_of, tab

from bigpe.agents.messages.core import (
    ArmPulled,
    CritiqueRequested,
    InstructionsProposed,
    PoolChanged,
    RunStarted,
)
from bigpe.runtime.viewer.filters import points, score
from bigpe.services.core.values import Instruction
from bigpe.testing.fake_reasoner import FakeReasoner
from bigpe.testing.runs import messages_of, run_fake

CONFIG = {"run": {"rounds": 12, "batch_size": 5, "pilot_prompts": 3, "seed": 5}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    asyncio.run(run_fake(folder, CONFIG))
    return folder


def found(pattern: str, page: str) -> list[str]:
    return [unescape(text) for text in re.findall(pattern, page, re.DOTALL)]


def plain(html: str, without: str) -> str:
    """The text, without the marked-up pieces of one kind."""
    kept = re.sub(f"<{without}>.*?</{without}>", "", html, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", "", kept))


async def test_the_gallery_is_in_order_and_of_one_instruction(finished: Path) -> None:
    pulled = messages_of(finished, ArmPulled)
    gains = [pair.gain for message in pulled for pair in message.gains]
    arm = pulled[0].instruction
    of_arm = [pair for message in pulled if message.instruction == arm for pair in message.gains]
    async with pages_of(finished) as served:
        for order, wanted in (
            ("best", sorted(gains, reverse=True)),
            ("worst", sorted(gains)),
            ("new", gains[::-1]),
        ):
            page = (await served.get(f"gallery?sort={order}")).text
            displayed = found(r'<span class="gain \w+">([^<]*)</span>', page)
            assert (
                displayed == [points(gain) for gain in wanted[: len(displayed)]]
                and len(displayed) > 20
            )
        page = (await served.get(f"gallery?sort=new&arm={arm}")).text
    shown_arms = found(r'</a> · <a class="id" href="[^"]*#i-(\w+)"', page)
    assert len(shown_arms) == min(len(of_arm), 24) and set(shown_arms) == {arm}
    last = of_arm[-1]
    first = found(r'<li data-entry tabindex="-1">(.*?)</li>', page)[0]
    # Both pictures of one seed, and both scores, side by side.
    places = [first.index(part) for part in (last.naive_image, last.image, f">{last.seed}<")]
    assert places == sorted(places)
    assert score(last.naive_score) in first and score(last.score) in first


async def test_the_lineage_tells_what_changed_and_why(finished: Path) -> None:
    existing = {seed.id: seed for seed in seeds(finished)}
    parents: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for proposed in messages_of(finished, InstructionsProposed):
        for entry in proposed.proposals:
            existing[entry.instruction.id] = entry.instruction
            parents.setdefault(entry.instruction.id, proposed.parent_instruction)
            reasons.setdefault(entry.instruction.id, entry.improvement)
    admitted = {
        item.id for message in messages_of(finished, PoolChanged) for item in message.admitted
    }
    async with pages_of(finished) as served:
        page = (await served.get("lineage?all=1")).text
    nodes = dict(re.findall(r'id="i-(\w+)"(.*?)(?=<li class="node|</ol>)', page, re.DOTALL))
    assert len(parents) >= 3 and nodes.keys() >= parents.keys() | admitted
    for child, parent in parents.items():
        result = re.findall(r'<p class="instruction">(.*?)</p>', nodes[child], re.DOTALL)[0]
        assert plain(result, "ins") == existing[parent].text
        assert plain(result, "del") == existing[child].text
        assert f"<b>{reasons[child]}</b>" in unescape(nodes[child])


async def test_a_long_instruction_folds_and_is_whole_inside(tmp_path: Path) -> None:
    text = " ".join(f"{n}. Keep <b>every</b> count & name." for n in range(20))
    (tmp_path / "own.txt").write_text(text)
    llm = {"provider": "openai", "model": "fake", "base_url": "http://localhost"}
    config = {
        "run": CONFIG["run"] | {"rounds": 3},
        "data": {"seeds": "own.txt"},
        "llm": {"default": llm},
    }
    await run_fake(tmp_path, config, llm=FakeReasoner())
    async with pages_of(tmp_path) as served:
        for place in ("", "lineage", "transcript"):
            page = (await served.get(place)).text
            folds = found(r'<details class="fold">.*?<div class="whole">(.*?)</div>', page)
            assert text in folds, place
            assert "<b>every</b>" not in page


async def test_what_the_gradient_calculator_saw_is_a_table_with_pictures(tmp_path: Path) -> None:
    llm = {"provider": "openai", "model": "fake", "base_url": "http://localhost"}
    run = CONFIG["run"] | {"rounds": 6, "batch_size": 3, "pilot_prompts": 2}
    config = {"run": run, "llm": {"default": llm}, "data": {"batches": "shared"}}
    await run_fake(tmp_path, config, llm=FakeReasoner())
    critique = messages_of(tmp_path, CritiqueRequested)[-1]
    study = critique.study
    assert study is not None and study.contrasts
    async with pages_of(tmp_path) as served, tab(width=390) as phone:
        page = (await served.get(f"message/{critique.mid}")).text
        batch, contrasts = found(r'<table class="cells">(.*?)</table>', page)[:2]
        images = [digest for pair in study.batch for digest in (pair.naive_image, pair.image)]
        assert sorted(re.findall(r'src="[^"]*image/(\w+)/96.webp"', batch)) == sorted(images)
        groups = [(item.best, *item.between, item.worst) for item in study.contrasts]
        assert contrasts.count('scope="rowgroup"') == len(groups)
        linked = re.findall(r'lineage#i-(\w+)"', contrasts)
        assert linked == [pair.arm for group in groups for pair in group]
        texts = found(r'data-label="rewrite"><span class="prompt">([^<]*)', contrasts)
        assert texts == [pair.rewrite for group in groups for pair in group]
        # At the width of a phone; a list of messages folds it.
        await phone.open(served, f"message/{critique.mid}")
        assert await phone.faults_of_access() == "" and not phone.wrongs
        assert await phone.page.evaluate("document.documentElement.scrollWidth") <= 390
        await phone.open(served, "transcript?type=CritiqueRequested&all=1")
        table = phone.page.locator("table.cells").first
        assert not await table.is_visible()
        await phone.page.locator("details.long > summary").first.click()
        assert await table.is_visible()


def seeds(folder: Path) -> list[Instruction]:
    [started] = messages_of(folder, RunStarted)
    return [seed.instruction for seed in started.plan.instructions]


@pytest.mark.parametrize(
    ("filters", "kind", "actor", "index"),
    [
        ("type=ArmPulled", "ArmPulled", "coordinator", r"\d+"),
        ("actor=gradient&all=1", r"\w+", "gradient", r"\d+"),
        ("round=3&type=PoolChanged", "PoolChanged", "coordinator", "3"),
    ],
)
async def test_the_transcript_keeps_what_is_asked_for(
    finished: Path, filters: str, kind: str, actor: str, index: str
) -> None:
    async with pages_of(finished) as served:
        page = (await served.get(f"transcript?{filters}")).text
    entries = re.findall(r'<li class="entry (.*?)\n</li>', page, re.DOTALL)
    assert entries
    for entry in entries:
        assert re.search(f'<span class="kind">{kind}</span>', entry)
        assert re.search(f'<span class="actor [^"]*">{actor}</span>', entry)
        assert re.search(f'title="round">{index}</span>', entry)


async def test_a_message_has_its_pictures_scores_and_raw_json_in_place(finished: Path) -> None:
    message = messages_of(finished, ArmPulled)[2]
    async with pages_of(finished) as served:
        page = unescape((await served.get(f"message/{message.mid}")).text)
        raw = await served.get(f"message/{message.mid}/json")
    assert ArmPulled.model_validate_json(raw.text) == message
    displayed = re.findall(r"<pre[^>]*raw JSON[^>]*>(.*?)</pre>", page, re.DOTALL)[0]
    assert json.loads(displayed) == json.loads(raw.text)
    for pair in message.gains:
        for part in (pair.naive_image, pair.image, points(pair.gain), score(pair.score)):
            assert part in page


async def test_the_overview_tells_arms_rounds_and_cost(finished: Path) -> None:
    pulled = messages_of(finished, ArmPulled)
    async with pages_of(finished) as served:
        page = (await served.get()).text
    rows = re.findall(r"<tr class=\"[^\"]*\">(.*?)</tr>", page, re.DOTALL)
    arms = {message.instruction for message in pulled}
    assert all(any(arm[:8] in row for row in rows) for arm in arms)
    assert "Gain of the best over rounds" in page and "bound" in page
    assert f"round <b>{CONFIG['run']['rounds']}</b> of {CONFIG['run']['rounds']}" in page
    assert "What it took" in page and "Messages by actor" in page
