"""Serves the pages of a run, and opens them in Chromium."""

from __future__ import annotations

import asyncio
import http.client
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

from bigpe.runtime.project.paths import Project
from bigpe.runtime.viewer.app import RunPages
from bigpe.runtime.viewer.server import LocalServer
from bigpe.services.store.database import Store

PATIENCE_S = 240.0
"""How long a page may take on a machine that does much else."""


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Served:
    """Pages that are being served."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self.address = (parts.hostname, parts.port)
        self.root = parts.path

    async def get(self, path: str = "", **headers: str) -> Got:
        """A page below the token; a path from "/" on is taken as it is."""
        return await asyncio.to_thread(ask, self.address, "GET", self._whole(path), headers)

    @property
    def origin(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def send(self, method: str, path: str = "", body: str = "", **headers: str) -> Got:
        return await asyncio.to_thread(ask, self.address, method, self._whole(path), headers, body)

    def _whole(self, path: str) -> str:
        return path if path.startswith("/") else self.root + path


def ask(
    address: tuple[str, int], method: str, path: str, headers: dict[str, str], body: str = ""
) -> Got:
    """One request, with a Host header of one's own."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
    try:
        host = headers.pop("Host", f"{address[0]}:{address[1]}")
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": host, **headers}.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body.encode() or None)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Got(answer.status, found, answer.read())
    finally:
        connection.close()


@asynccontextmanager
async def serving(server: LocalServer) -> AsyncGenerator[Served]:
    """The server in this process, until the block ends."""
    running = asyncio.create_task(server.serve())
    try:
        yield Served(server.url)
    finally:
        server.stop()
        await running


@asynccontextmanager
async def pages_of(folder: Path, run: str = "main") -> AsyncGenerator[Served]:
    async with Store(Project(folder).database, read_only=True) as store:
        pages = RunPages(Project(folder), store, run)
        await pages.context.reader.catch_up()  # else a busy machine's first page is of a part
        server = LocalServer(pages.app())
        pages.ending = lambda: server.ending
        async with serving(server) as served:
            yield served


class Tab:
    """A page in the browser that notes what should never happen."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrongs: list[str] = []
        page.on("dialog", lambda dialog: self.wrongs.append(f"dialog: {dialog.message}"))
        page.on("pageerror", lambda error: self.wrongs.append(f"error: {error}"))
        page.on("console", lambda outcome: self._console(outcome.type, outcome.text))
        page.on("request", lambda request: self._request(request.url))
        self.allowed: tuple[str, ...] = ()
        """How addresses begin that the page may ask for."""

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrongs.append(f"console: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith(self.allowed):
            self.wrongs.append(f"request: {url}")

    async def open(self, served: Served, path: str = "") -> None:
        self.allowed = (served.url,)
        await self.page.goto(served.url + path, wait_until="load")

    async def press(self, key: str) -> None:
        """Press a key that leads to another page, and wait until that page hears keys too."""
        async with self.page.expect_navigation(wait_until="load"):
            await self.page.keyboard.press(key)

    async def click(self, selector: str) -> None:
        """Click a link, and wait for its page likewise."""
        async with self.page.expect_navigation(wait_until="load"):
            await self.page.click(selector)

    async def hacked(self) -> bool:
        return bool(await self.page.evaluate("'hacked' in window"))

    async def faults_of_access(self) -> str:
        """What axe finds."""
        result = await Axe().run(self.page)
        return result.generate_report() if result.violations_count else ""


@asynccontextmanager
async def browser() -> AsyncGenerator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "these tests need Chromium: run `make browser`, or apt-get install chromium"
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            await chromium.close()


@asynccontextmanager
async def tab(*, dark: bool = False, width: int = 1280) -> AsyncGenerator[Tab]:
    async with browser() as chromium:
        context = await chromium.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 900},
            reduced_motion="reduce",
        )
        context.set_default_timeout(1000 * PATIENCE_S)
        yield Tab(await context.new_page())
