"""A real HTTP server on this machine that speaks the part of the Hugging Face Hub's API that
huggingface_hub needs to make a repository, commit files to it, and fetch them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
COMMIT = re.compile(r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit)/(.+)")
TOKEN = "hf_of_the_test"


class FakeHub:
    """Repositories by name; `broken` makes every request fail with that status."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []
        self.broken: int | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                hub.fetch(self)

            def do_POST(self) -> None:
                hub.change(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def fetch(self, handler: BaseHTTPRequestHandler) -> None:
        place = RESOLVE.fullmatch(handler.path)
        if self.broken or place is None:
            return _send(handler, self.broken or 404, b"{}")
        repo, revision, name = place.groups()
        if repo not in self.repos:
            return _send(handler, 404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision != "main":
            return _send(handler, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        if name not in self.repos[repo]:
            return _send(handler, 404, b"", {"X-Error-Code": "EntryNotFound"})
        body = self.repos[repo][name]
        outcome = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": 40 * "a"}
        return _send(handler, 200, body, outcome)

    def change(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if self.broken or handler.headers["Authorization"] != f"Bearer {TOKEN}":
            return _send(handler, self.broken or 401, b"{}")
        if handler.path == "/api/repos/create":
            request = json.loads(body)
            repo = f"{request.get('organization') or 'me'}/{request['name']}"
            self.private[repo] = request.get("visibility") == "private"
            existing = repo in self.repos
            self.repos.setdefault(repo, {})
            return _json(handler, {"url": f"{self.url}/{repo}"}, 409 if existing else 200)
        if handler.path == "/api/validate-yaml":
            return _json(handler, {"errors": [], "warnings": []})
        place = COMMIT.fullmatch(handler.path)
        assert place is not None, handler.path
        repo, verb, _ = place.groups()
        if verb == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return _json(handler, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                self.commits.append(line["value"]["summary"])
            else:
                file = line["value"]
                assert file["encoding"] == "base64"
                self.repos[repo][file["path"]] = base64.b64decode(file["content"])
        result = {"commitUrl": f"{self.url}/{repo}/commit/1", "commitOid": 40 * "a"}
        return _json(handler, result)


def _json(handler: BaseHTTPRequestHandler, value: Any, status: int = 200) -> None:
    _send(handler, status, json.dumps(value).encode())


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, result: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(result or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
