"""The pages of a run in a real browser, and what their server refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from benchmarks.browser import PATIENCE_S, ask, pages_of, tab
from playwright.async_api import expect
from support.hostile_run import ATTACKS, EVIL, poison

from bigpe.agents.messages.core import LlmTurn
from bigpe.runtime.evaluation.pipeline import EvaluationSettings, evaluate
from bigpe.runtime.viewer.filters import points
from bigpe.services.core.values import Instruction
from bigpe.services.store.database import Statement, Store, many
from bigpe.testing.runs import CONFIG, open_fake, open_fake_evaluated, run_fake

expect.set_options(timeout=1000 * PATIENCE_S)
PAGES = (
    "",
    "lineage?all=1",
    "gallery",
    "evaluation",
    "transcript?all=1",
    "transcript?at=end&all=1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    asyncio.run(run_fake(folder))
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "p"))


# -- who may read ---------------------------------------------------------------------------------


async def test_only_this_machine_with_the_token_reads_and_nobody_writes(finished: Path) -> None:
    async with pages_of(finished) as served:
        assert (await served.get()).status == 200
        for wrong in ("/", "/lineage", served.root[:-2] + "/", served.root.upper()):
            assert (await served.get(wrong)).status == 404
        for host in (
            "evil.example",
            "evil.example:80",
            f"evil.example:{served.address[1]}",
            "",
            "[::1",
        ):
            refused = await served.get(Host=host)
            assert refused.status == 421, host
            assert "main" not in refused.text
        for host in ("localhost:1", "127.0.0.1", "[::1]:9999"):
            assert (await served.get(Host=host)).status == 200, host
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await served.send(method)).status == 405
        assert (await asyncio.to_thread(ask, served.address, "OPTIONS", "*", {})).status == 404
        assert served.address[0] == "127.0.0.1"


async def test_every_answer_carries_the_policy(finished: Path) -> None:
    async with pages_of(finished) as served:
        paths = ("", "transcript", "nowhere", "/", "assets/viewer.css", "message/none")
        for got in [await served.get(path) for path in paths]:
            policy = got.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert got.headers["referrer-policy"] == "same-origin"
            assert got.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "assets/app.py",
        "assets/..%2Fapp.py",
        "assets/%2e%2e/app.py",
        "image/" + "0" * 64 + ".png",
        "image/..%2f..%2fbigpe.png",
        "image/" + "0" * 64 + "/96.webp",
        "message/x",
        "message/x/json",
    ],
)
async def test_what_is_not_there_is_not_found(finished: Path, path: str) -> None:
    async with pages_of(finished) as served:
        assert (await served.get(path)).status == 404


async def test_pictures_come_whole_and_small(finished: Path) -> None:
    picture = next((finished / "images").glob("*/*.png"))
    async with pages_of(finished) as served:
        whole = await served.get(f"image/{picture.stem}.png")
        assert whole.body == picture.read_bytes()
        small = await served.get(f"image/{picture.stem}/96.webp")
        assert small.body[8:12] == b"WEBP"
        assert (await served.get(f"image/{picture.stem}/97.webp")).status == 404


async def test_numbers_that_are_none_do_no_harm(finished: Path) -> None:
    async with pages_of(finished) as served:
        for odd in ("-1", "x", "9" * 30, "١٢", "²", "", "1e9"):
            for name in (
                "transcript?round=",
                "transcript?after=",
                "transcript?before=",
                "gallery?from=",
            ):
                assert (await served.get(name + quoted(odd))).status == 200, odd
        assert (await served.get("gallery?sort=no&arm=no")).status == 200


# -- what a reader sees ---------------------------------------------------------------------------


async def test_pages_are_accessible_in_light_and_dark_and_narrow(project: Path) -> None:
    await poison(project, sender="reviewer")
    async with tab() as light, tab(dark=True, width=390) as dark:
        async with pages_of(project) as served:
            some = await message_of(project, "LlmTurn")
            for path in (*PAGES, f"message/{some}", "nowhere"):
                for item in (light, dark):
                    await item.open(served, path)
                    assert await item.faults_of_access() == "", path
                wide = await dark.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= 390, f"{path} is wider than a narrow screen"
    assert all("404" in wrong for wrong in [*light.wrongs, *dark.wrongs])


async def test_hostile_text_is_shown_and_never_run(project: Path) -> None:
    messages = await poison(project)
    async with tab() as opened, pages_of(project) as served:
        paths = [*PAGES, *(f"message/{m.mid}" for m in messages), f"message/{'0' * 31}1"]
        paths += [
            f"transcript?q={quoted('window.hacked')}",
            f"transcript?actor={quoted(EVIL)}&all=1",
        ]
        paths += [f"transcript?q={quoted(EVIL[:180])}&all=1"]
        for path in paths:
            await opened.open(served, path)
            await opened.page.mouse.move(300, 300)
            assert not await opened.hacked(), path
            displayed = await opened.page.evaluate("document.body.textContent")
            assert ATTACKS[0] in displayed or path == "evaluation", path
            assert "1337" not in displayed
            counts = await opened.page.evaluate(
                "[...document.querySelectorAll('script:not([src]), base, svg[onload], [onerror], "
                "[onmouseover], [onfocus], a[href^=javascript]')].length"
            )
            assert counts == 0, path
    assert opened.wrongs == []


async def test_a_message_leads_to_its_cause_its_consequences_and_its_paid_call(
    finished: Path,
) -> None:
    async with tab() as opened, pages_of(finished) as served:
        await opened.open(served, f"message/{await message_of(finished, 'ArmPulled')}")
        await opened.click("#consequences-title + ol a[data-open]")
        assert (await opened.page.inner_text("h1")).startswith("CritiqueRequested")
        await opened.press("u")
        await expect(opened.page.locator("h1")).to_contain_text("ArmPulled")
        mid = await message_of(finished, "LlmTurn")
        await opened.open(served, f"message/{mid}")
        request = json.loads(await opened.page.inner_text("pre[aria-label='request 1']"))
        answer = json.loads(await opened.page.inner_text("pre[aria-label='answer 1']"))
        raw = LlmTurn.model_validate_json((await served.get(f"message/{mid}/json")).text)
        assert [t["text"] for t in request["turns"]] == [t["content"] for t in raw.chat[:-1]]
        assert answer["text"] == raw.chat[-1]["content"]
        assert {"seed", "temperature", "max_tokens"} <= request.keys()
    assert opened.wrongs == []


async def test_keys_go_through_the_pages_and_entries(finished: Path) -> None:
    async with tab() as opened, pages_of(finished) as served:
        await opened.open(served)
        await opened.press("4")
        assert opened.page.url.endswith("/transcript")
        for key in ("j", "j", "k", "j"):
            await opened.page.keyboard.press(key)
        focused = await opened.page.evaluate("document.activeElement.dataset.seq")
        entries = await opened.page.evaluate(
            "[...document.querySelectorAll('[data-entry]')].map(e => e.dataset.seq)"
        )
        assert focused == entries[1]
        await opened.press("Enter")
        assert "/message/" in opened.page.url
        await opened.page.keyboard.press("?")
        await expect(opened.page.locator("#keys")).to_be_visible()
        await opened.page.keyboard.press("Escape")
        await expect(opened.page.locator("#keys")).to_be_hidden()
        await opened.press("/")
        assert opened.page.url.endswith("/transcript")
        await opened.page.keyboard.press("/")
        await expect(opened.page.locator("[data-search]")).to_be_focused()
        await opened.page.keyboard.type("golden")
        await opened.press("Enter")
        assert "q=golden" in opened.page.url
        marks = await opened.page.eval_on_selector_all("mark", "all => all.map(m => m.innerText)")
        assert marks and {mark.lower() for mark in marks} == {"golden"}


async def test_keys_work_as_soon_as_the_help_is_closed(finished: Path) -> None:
    """The focus stays in a closed dialog until the browser has drawn the page once more."""
    async with tab() as opened, pages_of(finished) as served:
        await opened.open(served, "lineage")
        await opened.page.evaluate(
            """() => {
                const help = document.getElementById("keys");
                help.showModal();
                const within = help.querySelector("button");
                help.close();
                within.dispatchEvent(new KeyboardEvent("keydown", {key: "4", bubbles: true}));
            }"""
        )
        await opened.page.wait_for_url("**/transcript")


async def test_a_page_follows_a_run_that_goes_on(tmp_path: Path) -> None:
    async with open_fake(tmp_path, CONFIG) as session:
        async for message in session.run():
            if message.kind == "PoolChanged":
                session.pause()
    async with tab() as overview, tab() as transcript, pages_of(tmp_path) as served:
        await overview.open(served)
        await transcript.open(served, "transcript?at=end&all=1")
        before = await transcript.page.locator("[data-entry]").count()
        await run_fake(tmp_path)
        await expect(overview.page.locator(".status")).to_contain_text("round 10 of 10")
        await expect(overview.page.locator(".notice")).to_contain_text("all 10 rounds are done")
        await expect(transcript.page.locator("[data-entry]").nth(before)).to_be_visible()
        places = await transcript.page.eval_on_selector_all(
            "[data-entry]", "all => all.map(entry => Number(entry.dataset.seq))"
        )
        assert places == sorted(set(places)), "each message once, in order"
    assert overview.wrongs == [] and transcript.wrongs == []


async def test_a_reader_does_not_let_the_log_grow(project: Path) -> None:
    """The write-ahead log can start anew only when no reader stands in the middle of it."""
    filler = "x" * 100_000
    async with tab() as opened, pages_of(project) as served, Store(project / "bigpe.db") as store:
        await opened.open(served)
        for index in range(300):
            await store.write([bulky(index, filler)])
        size = (project / "bigpe.db-wal").stat().st_size
    assert size < 15_000_000, "30 MB were written"


async def test_the_evaluation_is_shown_prompt_by_prompt(project: Path) -> None:
    evil = Instruction(text=EVIL)
    async with open_fake_evaluated(project) as judged:
        report = await evaluate(
            judged, EvaluationSettings(instructions=(evil,), prompts=6), lambda _: None
        )
    async with tab() as opened, tab(dark=True, width=390) as dark, pages_of(project) as served:
        for page in (opened, dark):
            await page.open(served, "evaluation")
            assert await page.faults_of_access() == ""
            assert not await page.hacked()
        assert await dark.page.evaluate("document.documentElement.scrollWidth") <= 390
        displayed = [compared for compared in report.compared if compared.treatment.kind != "naive"]
        text = await opened.page.inner_text("main")
        assert EVIL[:60] in text
        gains = await opened.page.locator(".arms tbody .gain").all_inner_texts()
        assert gains[::2] == [points(compared.gain.mean) for compared in displayed if compared.gain]
        assert await opened.page.locator(".prompts tbody tr").count() == len(report.lines)
        chosen = displayed[0].treatment.id
        await opened.open(served, f"evaluation?sort={chosen}")
        first = await opened.page.locator(".prompts tbody th").first.inner_text()
        assert first == max(report.lines, key=lambda line: line.gains[chosen] or 0.0).prompt
    assert opened.wrongs == dark.wrongs == []


async def message_of(folder: Path, kind: str) -> str:
    async with Store(folder / "bigpe.db", read_only=True) as store:
        rows = await store.rows(
            "messages_after_by_type", run="main", type=kind, after=0, sender=None, limit=1
        )
    return str(rows[0]["mid"])


def bulky(index: int, filler: str) -> Statement:
    row = {"mid": f"bulk{index}", "type": "Bulk", "sender": "s", "parent": ""}
    body = json.dumps({"kind": "Bulk", "text": filler})
    row |= {"round": 0, "body": body, "ts": 0.0, "tokens": 0, "ms": 0.0}
    return many("add_messages", [row], run="main")


def quoted(text: str) -> str:
    return quote(text, safe="")
