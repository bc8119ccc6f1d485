"""What servers of language models do that OpenAI's reference does not say: one row per oddity.

`OddServer` plays each row under a path of its own. `docs/reference/providers.md` lists the rows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Json = dict[str, Any]
TEXT = "a red fox, snow"
WORDED = json.dumps({"word": "fox"})


class Reply(NamedTuple):
    """An answer of a server."""

    status: int
    body: str
    kind: str = "application/json"
    headers: Mapping[str, str] = {}


def answer(body: Json) -> Reply:
    """A good answer, as OpenAI gives it."""
    return whole(body, WORDED if "schema" in json.dumps(body) else TEXT)


def whole(body: Json, content: Any, finish: str | None = "stop", **beside: Any) -> Reply:
    """A completion with this content; `beside`: further fields of the message."""
    message = {"role": "assistant", "content": content} | beside
    return completed(body, {"index": 0, "message": message, "finish_reason": finish})


def completed(body: Json, *choices: Json, **beside: Any) -> Reply:
    usage = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}
    made = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
    return Reply(200, json.dumps(made | {"choices": list(choices), "usage": usage} | beside))


def streamed(*chunks: Json, end: str = "data: [DONE]\n\n") -> Reply:
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return Reply(200, f": keep-alive\n\n{events}{end}", "text/event-stream")


def piece(finish: str | None = None, **delta: Any) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def refused(message: str, status: int = 400, **fields: Any) -> Reply:
    """A refusal in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Reply(status, json.dumps({"error": error | fields}))


def bare(status: int, body: Any, kind: str = "application/json", **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(status, text, kind, {n.replace("_", "-"): v for n, v in headers.items()})


def kind_of(body: Json) -> str:
    return str((body.get("response_format") or {}).get("type", "none"))


def text_of(body: Json) -> str:
    return json.dumps(body["messages"])


@dataclass(frozen=True)
class Oddity:
    """One row: what a server does, and what becomes of a request."""

    name: str
    came: str
    """What the server does, for the reference."""
    reply: Callable[[Json], Reply]
    wants: Json = field(default_factory=dict[str, Any])
    """What must come of it: `text`, `finish`, `refusal`, `reasoning`, `error` (a class), `says`
    (a part of its message), `wait` (seconds), `calls` (of the first request), `sent` (fields of
    the last request; None: absent), `usage`."""
    ask: Json = field(default_factory=dict[str, Any])
    """Changes of the request: `schema`, `stop`, `seed`, `max_tokens`, `picture`."""
    config: Json = field(default_factory=dict[str, Any])
    """Changes of `[llm.default]`."""


class OddServer:
    """One server for all rows: the row's name is the first part of the path."""

    def __init__(self, rows: Mapping[str, Oddity]) -> None:
        self.seen: dict[str, list[Json]] = {name: [] for name in rows}
        self.headers: dict[str, Mapping[str, str]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = self.path.split("/")[1]
                server.seen[name].append(body)
                server.headers[name] = dict(self.headers.items())
                reply = rows[name].reply(body)
                data = reply.body.encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(data)))
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
