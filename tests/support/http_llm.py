"""A real HTTP server on this machine that answers as OpenAI does, or misbehaves."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler], None]


class FakeServer:
    """Gives one reply after the other, the last one for ever, and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [says("a red fox, snow")]
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.asked: dict[str, Any] = json.loads(body) | {"path": self.path}
                server.requests.append(self.asked)
                server.keys.append(self.headers["Authorization"])
                server.headers.append(dict(self.headers.items()))
                reply = server.replies[0] if len(server.replies) == 1 else server.replies.pop(0)
                reply(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.ended.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answers_well(self, handler: BaseHTTPRequestHandler) -> None:
        """What a capable model would say to the role that asks."""
        request = self.requests[-1]
        requested = str(request["messages"][-1]["content"])
        shape = json.dumps(request.get("response_format", {}))
        if '"improvement"' in shape:
            better = re.search(r"^better: (.*)$", requested, re.M)
            wish = f"Add {better[1]}." if better else "Add wild roses."
            rows = re.findall(r"^(E\d+) ", requested, re.M)
            answer = {"improvement": wish, "inference": "It was so measured.", "evidence": rows[:1]}
            says(json.dumps(answer))(handler)
        elif '"instruction"' in shape:
            names = re.search(r"^name: (.*)$", requested, re.M)
            result = names[1] if names else "wild roses"
            says(json.dumps({"instruction": f"Enrich the picture, with {result}."}))(handler)
        else:
            says(f"{requested.strip()}, golden hour, wild roses")(handler)

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        self.ended.wait(60)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a blank every now and then, so that the line is never silent for long."""
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        try:
            while not self.ended.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            pass  # the client gave up, as it should


def sends(status: int, body: str, kind: str = "application/json", **headers: str) -> Reply:
    """`headers`: further ones, with "_" for "-"."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        data = body.encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def says(text: str | None, finish: str = "stop", model: str = "test-model") -> Reply:
    message = {"role": "assistant", "content": text}
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return sends(200, json.dumps(answer))


def fails(status: int, expected: str = "no luck", **headers: str) -> Reply:
    return sends(status, json.dumps({"error": {"message": expected, "type": "x"}}), **headers)


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "x", ')
