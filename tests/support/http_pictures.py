"""Real HTTP servers on this machine that speak picture services' APIs as they are documented."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from PIL import Image as Pictures

from bigpe.testing.fakes import rng_of


def picture(*parts: object, size: int = 16, kind: str = "PNG", **options: Any) -> bytes:
    """A plain picture whose colour depends on `parts`."""
    rng = rng_of(*parts)
    colour = tuple(rng.randrange(1, 256) for _ in range(3))
    buffer = io.BytesIO()
    Pictures.new("RGB", (size, size), colour).save(buffer, kind, **options)
    return buffer.getvalue()


class Answer(NamedTuple):
    body: bytes
    status: int = 200
    headers: dict[str, str] = {}


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    json: Any
    headers: dict[str, str]


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **named})


class PictureServer:
    """Answers by `answer`; `first` holds answers that are given before, one for each request."""

    def __init__(self, *, read_json: bool = True) -> None:
        self.asked: list[Asked] = []
        self.first: list[Answer | Callable[[BaseHTTPRequestHandler], None]] = []
        self.ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                data = self.rfile.read(length)
                body = json.loads(data) if length and read_json else None
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                headers = dict(self.headers.items())
                requests = Asked(self.command, parts.path, query, body, headers)
                server.asked.append(requests)
                answer = server.first.pop(0) if server.first else server.answer(requests)
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def answer(self, request: Asked) -> Answer:
        return json_answer({"detail": "Not Found"}, 404)

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        self.ended.wait(60)

    def close(self) -> None:
        self.ended.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class OpenAiServer(PictureServer):
    """POST /images/generations; refuses fields that OpenAI does not know."""

    fields = {"model", "prompt", "n", "size", "quality", "output_format", "moderation"}
    made = 0

    def answer(self, request: Asked) -> Answer:
        if (request.method, request.path) != ("POST", "/v1/images/generations"):
            return super().answer(request)
        if unknown := set(request.json) - self.fields:
            return json_answer({"error": {"message": f"Unknown parameter: {unknown}"}}, 400)
        self.made += 1
        side = int(request.json.get("size", "16x16").split("x")[0])
        kind = request.json.get("output_format", "png").upper()
        # No seed: equal requests give different pictures.
        data = picture(request.json["prompt"], self.made, size=side, kind=kind)
        return json_answer({"created": 0, "data": [{"b64_json": base64.b64encode(data).decode()}]})


class A1111Server(PictureServer):
    """GET /sdapi/v1/options and POST /sdapi/v1/txt2img, with --api-auth user:secret."""

    checkpoint = "tiny"

    def answer(self, request: Asked) -> Answer:
        wanted = "Basic " + base64.b64encode(b"user:secret").decode()
        if request.headers.get("Authorization") != wanted:
            return json_answer({"detail": "Incorrect username or password"}, 401)
        if request.path == "/sdapi/v1/options":
            options = {
                "sd_model_checkpoint": f"{self.checkpoint}.safetensors",
                "samples_save": True,
            }
            return json_answer(options | {"sd_checkpoint_hash": self.checkpoint * 8})
        if request.path == "/sdapi/v1/sd-models":
            names = ("tiny", "other", "mine")
            return json_answer(
                [{"title": f"{n}.safetensors [ab12]", "model_name": n} for n in names]
            )
        if (request.method, request.path) != ("POST", "/sdapi/v1/txt2img"):
            return super().answer(request)
        body = request.json
        if model := body.get("override_settings", {}).get("sd_model_checkpoint"):
            self.checkpoint = model
        data = picture(self.checkpoint, body["prompt"], body["seed"], body["steps"])
        info = {"seed": body["seed"], "sd_model_hash": self.checkpoint}
        image = base64.b64encode(data).decode()
        return json_answer({"images": [image], "parameters": body, "info": json.dumps(info)})


class ComfyServer(PictureServer):
    """GET /system_stats, /queue, /history/ID and /view, POST /prompt and /queue."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.looks_until_done = 2
        self.history: dict[str, Any] = {}
        self.deleted: list[str] = []
        super().__init__()

    def answer(self, request: Asked) -> Answer:
        if request.path == "/system_stats":
            return json_answer({"system": {"comfyui_version": "0.3.60", "pytorch_version": "2.8"}})
        if request.path == "/queue" and request.method == "POST":
            self.deleted += request.json["delete"]
            return Answer(b"")
        if request.path == "/queue":
            running = [[0, job, graph, {}, []] for job, graph in self.jobs.items()]
            return json_answer({"queue_running": running, "queue_pending": []})
        if request.path == "/prompt":
            return self._take(request.json["prompt"])
        if request.path.startswith("/history/"):
            return self._look(request.path.removeprefix("/history/"))
        if request.path == "/view":
            prompt, seed = json.loads(request.query["filename"].removesuffix(".png"))
            return Answer(picture(prompt, seed), headers={"Content-Type": "text/html"})
        return super().answer(request)

    def _take(self, graph: Any) -> Answer:
        if not isinstance(graph["3"]["inputs"]["seed"], int):
            error = {"type": "invalid_input_type", "message": "seed is no INT"}
            return json_answer({"error": error, "node_errors": {}}, 400)
        job = f"job-{len(self.jobs) + len(self.history)}"
        self.jobs[job] = graph
        return json_answer({"prompt_id": job, "number": 1, "node_errors": {}})

    def _look(self, job: str) -> Answer:
        looks = sum(requested.path.endswith(job) for requested in self.asked)
        if job in self.jobs and looks >= self.looks_until_done:
            graph = self.jobs.pop(job)
            self.history[job] = self.done(
                graph["6"]["inputs"]["text"], graph["3"]["inputs"]["seed"]
            )
        return json_answer({job: self.history[job]} if job in self.history else {})

    def done(self, prompt: str, seed: int) -> Any:
        if prompt == "bad":
            error = {"node_type": "KSampler", "exception_message": "Allocation on device\n"}
            messages = [["execution_start", {}], ["execution_error", error]]
            status = {"status_str": "error", "completed": False, "messages": messages}
            return {"prompt": [], "outputs": {}, "status": status}
        file = {"filename": json.dumps([prompt, seed]) + ".png", "subfolder": ""}
        outputs = {
            "9": {"images": [file | {"type": "output"}]},
            "10": {"images": [file | {"type": "temp"}]},
        }
        status = {"status_str": "success", "completed": True, "messages": []}
        return {"prompt": [], "outputs": outputs, "status": status}


WORKFLOW = {
    "3": {"class_type": "KSampler", "inputs": {"seed": "{seed}", "steps": "{steps}", "cfg": 7}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "{prompt}", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly, {negative_prompt}"}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "bigpe"}},
}
