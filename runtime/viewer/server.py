"""The local web server: on the loopback interface only, behind a random token.

Texts on a page may come from a language model or another person's prompt file. So templates escape
all texts, and the content security policy allows no inline script, no inline style and no foreign
address.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bigpe.runtime.viewer.filters import FILTERS
from bigpe.services.core.errors import ConfigError
from bigpe.services.workers.web_server import WebServer

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
STATIC = FOLDER / "static"
LOOPBACK = "127.0.0.1"
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""Host names of this machine. Any port is allowed, so that a forwarded port works."""
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The address contains the token. "same-origin" because forms need a referrer for their origin.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
ASSETS = {
    "viewer.css": "text/css",
    "viewer.js": "text/javascript",
    "rate.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Guard:
    """Passes requests with the right host name, token and method; refuses all others.

    A page elsewhere can neither guess the token nor, by pointing its own name at 127.0.0.1 (DNS
    rebinding), get past the host check. It cannot post, because its origin differs.
    """

    def __init__(self, app: ASGIApp, *, token: str, writable: bool = False) -> None:
        self._app = app
        self._token = token
        self._methods = {"GET", "HEAD", "POST"} if writable else {"GET", "HEAD"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_secured)
            return
        await self._app({**scope, "root_path": f"/{self._token}"}, receive, send_secured)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _host_name(host) not in LOCAL_NAMES:
            return PlainTextResponse("This server answers to this machine's own name only.\n", 421)
        given = scope["path"].removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse("Not found. The address that bigpe printed works.\n", 404)
        if scope["method"] not in self._methods:
            return PlainTextResponse("These pages are read-only.\n", 405)
        if scope["method"] == "POST" and headers.get("origin") != f"http://{host}":
            return PlainTextResponse("This form was sent by another page.\n", 403)
        return None


def _host_name(host: str) -> str | None:
    """The host name without its port; None if it is invalid."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class Pages:
    """Renders the templates and escapes all values."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(FILTERS)
        for name in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(name)  # compile before the first request

    def text(self, template: str, **values: Any) -> str:
        """The page as HTML."""
        return self._environment.get_template(template).render(values)

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """The page as a response. The template's `base` is the root path with the token."""
        base = request.scope["root_path"]
        return HTMLResponse(self.text(template, base=base, **values), status)


async def asset(request: Request) -> Response:
    """A style sheet, script or icon."""
    name = request.path_params["name"]
    if name not in ASSETS:
        return PlainTextResponse("Not found.\n", 404)
    return Response((STATIC / name).read_bytes(), media_type=ASSETS[name])


class LocalServer:
    """A server on a port of the loopback interface."""

    def __init__(self, app: ASGIApp, *, port: int = 0, writable: bool = False) -> None:
        """Bind the port (0: any free port). ConfigError if that fails."""
        self.token = secrets.token_urlsafe(24)
        try:
            self._socket = socket.create_server((LOOPBACK, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of this machine cannot be used: {error.strerror}; "
                "choose another with --port, or leave it out"
            ) from error
        config = uvicorn.Config(
            Guard(app, token=self.token, writable=writable),
            log_level="error",
            access_log=False,  # it would contain the token
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        self._server = WebServer(config)

    @property
    def url(self) -> str:
        """Address of the pages. It holds the secret that lets a browser read them."""
        return f"http://{LOOPBACK}:{self._socket.getsockname()[1]}/{self.token}/"

    @property
    def ending(self) -> bool:
        """Whether open streams should end."""
        return self._server.should_exit

    def stop(self) -> None:
        """Stop the server; `serve` then returns."""
        self._server.stop()

    async def serve(self, up: Callable[[], None] | None = None) -> None:
        """Serve until `stop`; `up` is called when the server is ready."""
        self._server.up = up
        await self._server.serve([self._socket])
