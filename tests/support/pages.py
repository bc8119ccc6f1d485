"""A run's pages on a real server, a real browser to read them, and a run full of bad intentions."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

from bigpe.agents.messages import (
    ArmPulled,
    GradientsComputed,
    ImageRendered,
    InstructionsProposed,
    LlmTurn,
    Message,
    PoolChanged,
    PromptsRewritten,
    RewriteRequested,
    RunStarted,
    StepFailed,
)
from bigpe.runtime.project import Project
from bigpe.runtime.viewer.app import RunPages
from bigpe.runtime.viewer.web import LocalServer
from bigpe.services.store import Params, Store, many
from bigpe.services.values import Instruction

ATTACKS = (
    "<script>window.hacked=1</script>",
    "\"><img src=x onerror='window.hacked=1'>",
    "' onmouseover='window.hacked=1' autofocus onfocus='window.hacked=1",
    "</pre></textarea></title><svg onload=window.hacked=1>",
    "javascript:window.hacked=1",
    "<a href='javascript:window.hacked=1' data-open>x</a>",
    "<base href='//evil.example/'>",
    "{{ 7 * 191 }} {% raw %} ${7 * 191}",
)
EVIL = "".join(ATTACKS)
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
        page.on("console", lambda told: self._console(told.type, told.text))
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


# -- a hostile transcript ---------------------------------------------------------------------


async def poison(folder: Path, run: str = "main", sender: str = EVIL) -> list[Message]:
    """Say hostile things of every kind in the run's transcript, as a model or a prompt file could.

    Each text that is untrusted in earnest holds all attacks, the actor's name too.
    """
    async with Store(Project(folder).database) as store:
        stored = await store.rows("facts", run=run, type="ArmPulled", after=0, upto=2**62)
        start = await store.rows("facts", run=run, type="RunStarted", after=0, upto=2**62)
        pulled = ArmPulled.model_validate_json(stored[0]["body"])
        first = RunStarted.model_validate_json(start[0]["body"])
        said = _hostile(first, pulled)
        rows = [_row(sender, message) for message in said]
        odd = {"kind": "OddKind<b>", "text": EVIL}
        mid = "0" * 31 + "1"
        unknown = {**rows[0], "mid": mid, "type": "OddKind<b>", "body": json.dumps(odd)}
        await store.write([many("add_messages", [*rows, unknown], run=run)])
    return said


def _row(sender: str, message: Message) -> Params:
    row = {"mid": message.mid, "type": message.kind, "sender": sender}
    row |= {"parent": message.parent, "round": message.round, "body": message.model_dump_json()}
    return row | {"ts": 1.8e9, "tokens": 7, "ms": 3.0}


def _hostile(first: RunStarted, pulled: ArmPulled) -> list[Message]:
    evil = Instruction.model_validate(
        {"text": EVIL, "exemplars": [{"naive": EVIL, "rewrite": EVIL + "!"}]}
    )
    gain = pulled.gains[0].model_copy(update={"naive": EVIL, "rewrite": "so " + EVIL, "gain": 0.5})
    odd = pulled.gains[0].model_copy(update={"naive": EVIL, "rewrite": EVIL, "fallback": EVIL})
    request = RewriteRequested.make(
        first,
        round=99,
        instruction=evil,
        tasks=({"naive": EVIL, "image_seed": 1, "llm_seed": 2},),
    )
    rewritten = {"naive": EVIL, "image_seed": 1, "text": EVIL}
    gradient = {"inference": EVIL, "improvement": EVIL, "evidence": (EVIL,), "composed": False}
    gradients = GradientsComputed.make(request, gradients=(gradient,))
    proposed = {"instruction": evil, "improvement": EVIL, "composed": False}
    refused = {"improvement": EVIL, "code": "invalid", "reasons": (EVIL, EVIL)}
    picture = {"purpose": "rewrite", "naive": EVIL, "prompt": EVIL, "seed": 1}
    chat = ({"source": "user", "content": EVIL}, {"source": EVIL, "content": EVIL})
    return [
        request,
        PromptsRewritten.make(
            request, instruction=evil.id, rewrites=(rewritten, {**rewritten, "fallback": EVIL})
        ),
        LlmTurn.make(request, "a", role=EVIL, chat=chat),
        ImageRendered.make(
            request, image={"digest": gain.image, "width": 8, "height": 8}, **picture
        ),
        ArmPulled.make(request, instruction=evil.id, gains=(gain, odd)),
        gradients,
        InstructionsProposed.make(
            gradients,
            parent_instruction=pulled.instruction,
            proposals=(proposed,),
            refused=(refused,),
        ),
        StepFailed.make(
            request,
            step=request.mid,
            step_kind=EVIL,
            actor=EVIL,
            error=EVIL,
            cause=EVIL,
            attempt=1,
            will_retry=False,
            raw=EVIL,
            scope={"lost": "prompt", "naive": EVIL, "seed": 1},
        ),
        PoolChanged.make(
            request,
            admitted=(evil,),
            retired=({"instruction": pulled.instruction, "reason": EVIL},),
            waiting=0,
            sigma=0.01,
            best=evil.id,
        ),
    ]
