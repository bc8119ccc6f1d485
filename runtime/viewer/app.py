"""The pages of a run: their routes, and the event stream for live pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bigpe.runtime.project.paths import Project
from bigpe.runtime.transcript.reader import RunReader
from bigpe.runtime.viewer.context import Context, standing
from bigpe.runtime.viewer.pages import evaluation, gallery, lineage, overview, transcript
from bigpe.runtime.viewer.pages.images import Thumbnails
from bigpe.runtime.viewer.server import Pages, asset
from bigpe.services.core.errors import BigpeError
from bigpe.services.store.database import Store

POLL_S = 0.5
"""Interval between two checks of the database for changes."""
FIRST_LOOK_S = 0.1
"""Reading time before a page of a long run is answered."""
HEARTBEAT_S = 15.0

Show = Callable[[Context, Request], Awaitable[tuple[str, Mapping[str, Any]]]]


class RunPages:
    """The pages of a run, from a store that is open for reading."""

    def __init__(self, project: Project, store: Store, run: str) -> None:
        self.context = Context(project, store, run, RunReader(store, run))
        self.images = Thumbnails(project.images)
        self.pages = Pages()
        self.ending: Callable[[], bool] = lambda: False
        """Whether open streams should end."""
        self._version = 0
        self._changed = asyncio.Event()
        self._answering = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def app(self) -> Starlette:
        """The pages as an ASGI application."""
        routes = [
            Route("/", self._page(overview.show)),
            Route("/lineage", self._page(lineage.show)),
            Route("/gallery", self._page(gallery.show)),
            Route("/evaluation", self._page(evaluation.show)),
            Route("/transcript", self._page(transcript.show)),
            Route("/message/{mid}", self._page(transcript.show_message)),
            Route("/message/{mid}/json", self._raw),
            Route("/image/{digest}.png", self.images.whole),
            Route("/image/{digest}/{side:int}.webp", self.images.small),
            Route("/events", self._events),
            Route("/assets/{name}", asset),
        ]
        return Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={HTTPException: self._not_there, BigpeError: self._failed},
        )

    # -- following the run --------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        following = asyncio.create_task(self._follow())
        yield
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        """Read new messages after each commit of another process, and wake the event streams."""
        seen = -1
        while True:
            row = await self.context.store.row("data_version")
            version = int(row[0]) if row else 0
            if version != seen:
                seen = version
                before = self.context.reader.seq
                await self._read_on()
                if self.context.reader.seq != before:
                    self._version += 1
                    self._changed.set()
                    self._changed = asyncio.Event()
            await asyncio.sleep(POLL_S)

    async def _read_on(self) -> None:
        """Read to the transcript's end, but pause while a page is answered."""
        await self.context.reader.catch_up(0.0)
        while self.context.reader.behind:
            await self._idle.wait()
            await self.context.reader.catch_up(0.0)

    async def _events(self, request: Request) -> Response:
        async def stream() -> AsyncGenerator[str]:
            yield f"retry: 2000\n\n{self._news()}"
            sent = self._version
            beat = time.monotonic()
            while not self.ending():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), POLL_S)
                if self._version != sent:
                    sent = self._version
                    yield self._news()
                elif time.monotonic() - beat > HEARTBEAT_S:
                    beat = time.monotonic()
                    yield ": still here\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    def _news(self) -> str:
        rounds = self.context.reader.facts.rounds
        news = {"seq": self.context.reader.seq, "round": rounds[-1].round if rounds else 0}
        return f"data: {json.dumps(news)}\n\n"

    # -- answering ----------------------------------------------------------------------------

    def _page(self, show: Show) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._answering += 1
            self._idle.clear()
            try:
                await self.context.reader.catch_up(FIRST_LOOK_S)
                template, values = await show(self.context, request)
                return self.pages.page(request, template, **await self._common(), **values)
            finally:
                self._answering -= 1
                if not self._answering:
                    self._idle.set()

        return answer

    async def _common(self) -> dict[str, Any]:
        """The values of the header of all pages."""
        reader = self.context.reader
        return {
            "seq": reader.seq,
            "behind": reader.behind,
            "read_share": reader.share,
            **await standing(self.context),
        }

    async def _raw(self, request: Request) -> Response:
        row = await transcript.required_message(self.context, request)
        return Response(row.body, media_type="application/json")

    async def _not_there(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else ""
        return self.pages.page(
            request, "missing.html", status=status, here="", detail=detail, **await self._common()
        )

    async def _failed(self, request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", 500)
