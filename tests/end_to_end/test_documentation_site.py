"""docs/ as a site: it builds without a warning, loads nothing from elsewhere, finds words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from benchmarks.browser import PATIENCE_S, Served, tab
from playwright.async_api import expect
from support.paths import ROOT

MAIN = (
    "index.html",
    "tutorial.html",
    "concepts.html",
    "scaling.html",
    "reference/configuration.html",
    "reference/python.html",
)


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing about what it serves."""

    def log_message(self, *result: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_reference_is_of_this_code(site: Path) -> None:
    reference = site / "reference"
    for page, words in {
        "commands": ("bigpe evaluate", "--until-significant", "cat prompts.txt | bigpe refine"),
        "configuration": ("seeds_per_prompt", "Naive prompts per round.", "needs a fork"),
        "messages": ("ArmPulled", "InstructionsProposed", "Delivered to: renderer"),
        "exit-codes": ("ConfigError", "130 paused"),
        "metrics": ("bigpe_run_scored_total", "bigpe_worker_request_seconds"),
        "figures": ("diverged_runs", "first_page_seconds_million"),
        "python": ("for writing: a new run", "Judgements of the items"),
        "not-run": ("embedded-world", "training takes hours"),
    }.items():
        text = (reference / f"{page}.html").read_text("utf-8")
        for word in words:
            assert word in text, f"{page} does not tell of {word}"


@pytest.fixture(scope="module")
def served(site: Path) -> Generator[Served]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield Served(f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


async def test_it_is_read_and_searched_without_the_internet(served: Served) -> None:
    async with tab() as seen:
        await seen.open(served, "index.html")
        await seen.page.get_by_role("textbox", name="Search").click()
        await seen.page.keyboard.type("confounded")
        first = seen.page.locator(".md-search-result__link").first
        await expect(first).to_contain_text("How bigpe works", timeout=1000 * PATIENCE_S)
        assert not seen.wrongs


async def test_its_pages_are_accessible_in_light_and_dark_and_narrow(served: Served) -> None:
    async with tab() as light, tab(dark=True, width=390) as dark:
        for path in MAIN:
            for item in (light, dark):
                await item.open(served, path)
                assert await item.faults_of_access() == "", path
            wide = await dark.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, f"{path} is wider than a narrow screen"
        assert light.wrongs == dark.wrongs == []
