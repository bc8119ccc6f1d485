"""The HTTP renderers against servers on this machine that speak the documented APIs."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image as Pictures
from support.http_pictures import (
    WORKFLOW,
    A1111Server,
    Answer,
    ComfyServer,
    OpenAiServer,
    PictureServer,
    json_answer,
    picture,
)

from bigpe.services.backends import ServiceContext, open_renderer
from bigpe.services.core.errors import (
    ConfigError,
    ModerationError,
    QuotaError,
    RenderError,
    TransientServiceError,
)
from bigpe.services.core.values import Image, RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.hosted.comfyui import Workflow
from bigpe.services.render.service import Renderer
from bigpe.services.store.blobs import BlobStore

S = TypeVar("S", bound=PictureServer)
KEY = "BIGPE_TEST_PICTURE_KEY"


class Bench:
    """Opens servers and renderers, and closes them."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder / "images")
        self.folder = folder
        self.servers: list[PictureServer] = []
        self.renderers: list[Renderer] = []
        (folder / "workflow.json").write_text(json.dumps(WORKFLOW))

    def serve(self, server: S) -> S:
        self.servers.append(server)
        return server

    def open(self, backend: str, url: str, **settings: Any) -> Renderer:
        own: dict[str, Any] = settings.pop("http", {})
        raw = {"backend": backend, "call_timeout_s": 10.0, **settings}
        config = RenderConfig.model_validate(raw | {"http": {"urls": [url], **own}})
        at = ServiceContext(self.blobs, self.folder, self.folder / "log")
        self.renderers.append(open_renderer(config, at))
        return self.renderers[-1]

    def openai(self, server: PictureServer, **settings: Any) -> Renderer:
        return self.open("openai-images", f"{server.url}/v1", **{"model": "tiny", **settings})

    def a1111(self, server: PictureServer, **settings: Any) -> Renderer:
        return self.open("a1111", server.url, **{"http": {"api_key_env": KEY}, **settings})

    def comfyui(self, server: PictureServer, **settings: Any) -> Renderer:
        return self.open(
            "comfyui", server.url, **{"http": {"workflow": "workflow.json"}, **settings}
        )


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv(KEY, "user:secret")
    made = Bench(tmp_path)
    yield made
    for renderer in made.renderers:
        await renderer.close()
    for server in made.servers:
        server.close()


@pytest.fixture
def server(bench: Bench) -> Iterator[OpenAiServer]:
    return bench.serve(OpenAiServer())  # pyright: ignore[reportReturnType]


async def paint(renderer: Renderer, prompt: str = "a fox", seed: int = 7) -> Image:
    [made] = await renderer.render([RenderRequest(prompt=prompt, seed=seed)])
    if isinstance(made, Exception):
        raise made
    return made


def pixel(bench: Bench, image: Image) -> Any:
    with Pictures.open(io.BytesIO(bench.blobs.read(image.digest))) as picture:
        assert (picture.format, picture.mode, picture.info) == ("PNG", "RGB", {})
        return picture.getpixel((0, 0))


# -- the three APIs --------------------------------------------------------------------------------


async def test_openai_images(bench: Bench, server: OpenAiServer) -> None:
    renderer = bench.openai(
        server, size=32, http={"api_key_env": KEY, "extra": {"output_format": "webp", "n": 9}}
    )
    assert await renderer.open() == await renderer.open()
    # Nothing but its address tells what it is.
    assert (
        await bench.openai(bench.serve(OpenAiServer())).open() != await bench.openai(server).open()
    )
    first, second = await paint(renderer), await paint(renderer)
    assert (first.width, first.height) == (32, 32)
    assert first.digest != second.digest, "it has no seed, so nothing makes them equal"
    request = server.asked[0]
    assert request.headers["Authorization"] == "Bearer user:secret"
    assert request.json == {
        "model": "tiny", "prompt": "a fox", "n": 1, "size": "32x32", "output_format": "webp",
    }  # fmt: skip
    pixel(bench, first)
    with pytest.raises(RenderError, match="Unknown parameter"):
        await paint(bench.openai(server, http={"send_seed": True}))


async def test_a1111(bench: Bench) -> None:
    server = bench.serve(A1111Server())
    renderer = bench.a1111(server, steps=4, guidance=2.0, negative_prompt="blur")
    fingerprint = await renderer.open()
    first, again, other = [await paint(renderer, seed=seed) for seed in (1, 1, 2)]
    assert first == again != other
    sent = server.asked[1].json
    assert (sent["seed"], sent["steps"], sent["cfg_scale"], sent["negative_prompt"]) == (
        1, 4, 2.0, "blur",
    )  # fmt: skip
    assert "override_settings" not in sent
    assert await bench.a1111(server, steps=5).open() != fingerprint
    # It may move: the same checkpoint at another address is the same renderer.
    moved = bench.serve(A1111Server())
    assert await bench.a1111(moved, steps=4, guidance=2.0, negative_prompt="blur").open() == (
        fingerprint
    )
    server.checkpoint = "other"
    assert await bench.a1111(server, steps=4, guidance=2.0).open() != fingerprint
    with pytest.raises(ConfigError, match="the checkpoint has changed from tiny to other"):
        await paint(renderer)
    named = bench.a1111(server, model="mine")
    await paint(named)
    assert server.asked[-1].json["override_settings"] == {"sd_model_checkpoint": "mine"}
    with pytest.raises(ConfigError, match="missing"):
        await bench.a1111(server, model="missing").open()
    await bench.a1111(server, model="mine.safetensors", width=24, height=16).open()
    with pytest.raises(RenderError, match=r"401: .*check the key"):
        await bench.open("a1111", server.url).open()
    with pytest.raises(ConfigError, match="--api"):
        await bench.open("a1111", bench.serve(OpenAiServer()).url).open()


async def test_sizes_of_openai(bench: Bench, server: OpenAiServer) -> None:
    with pytest.raises(RenderError, match="64 x 32"):  # the server paints squares
        await paint(bench.openai(server, width=64, height=32))
    assert server.asked[-1].json["size"] == "64x32"
    own = {"urls": ["https://api.openai.com/v1"]}
    with pytest.raises(ConfigError, match="1536x1024"):
        bench.open("openai-images", "", model="gpt-image-1-mini", size=512, http=own)
    with pytest.raises(RenderError, match="Unknown parameter"):
        await paint(bench.openai(server, model="dall-e-3"))  # which needs response_format
    assert server.asked[-1].json["response_format"] == "b64_json"


async def test_moderation_is_its_own_error(bench: Bench, server: OpenAiServer) -> None:
    error = {"code": "moderation_blocked", "message": "rejected by the safety system"}
    server.first = [json_answer({"error": error}, 400)]
    with pytest.raises(ModerationError):
        await paint(bench.openai(server))


async def test_comfyui(bench: Bench) -> None:
    server = bench.serve(ComfyServer())
    renderer = bench.comfyui(server, steps=9)
    await renderer.open()
    # A value is put in as it is: it is no placeholder itself, and no JSON.
    prompt = 'a "{seed}" of {prompt}\\'
    image = await paint(renderer, prompt, seed=3)
    assert pixel(bench, image) == Pictures.open(io.BytesIO(picture(prompt, 3))).getpixel((0, 0))
    [sent] = [request.json["prompt"] for request in server.asked if request.path == "/prompt"]
    assert sent["6"]["inputs"] == {"text": prompt, "clip": ["4", 1]}
    assert sent["3"]["inputs"] == {"seed": 3, "steps": 9, "cfg": 7}
    assert sent["7"]["inputs"]["text"] == "ugly, "
    with pytest.raises(RenderError, match="KSampler: Allocation on device$"):
        await paint(renderer, "bad")


async def test_comfyui_that_hangs_or_restarts(bench: Bench) -> None:
    server = bench.serve(ComfyServer())
    server.looks_until_done = 1000
    with pytest.raises(TransientServiceError, match="no picture in 0.3 s"):
        await paint(bench.comfyui(server, call_timeout_s=0.3))
    assert server.deleted == ["job-0"], "an abandoned job must not wait in the server's queue"
    waiting = asyncio.create_task(paint(bench.comfyui(server)))
    while len(server.jobs) < 2:
        await asyncio.sleep(0.01)
    server.jobs.clear()
    with pytest.raises(TransientServiceError, match="was it started again"):
        await waiting


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "no workflow in API format"),
        (json.dumps({"nodes": [], "links": []}), "no workflow in API format"),
        (json.dumps({"3": WORKFLOW["3"]}), 'has no "{prompt}"'),
        (json.dumps({"6": WORKFLOW["6"]}), 'has no "{seed}"'),
    ],
)
def test_workflows_that_cannot_work(tmp_path: Path, graph: str, words: str) -> None:
    (tmp_path / "w.json").write_text(graph)
    with pytest.raises(ConfigError, match=words):
        Workflow(tmp_path / "w.json")


async def test_a_workflow_must_make_one_picture(bench: Bench) -> None:
    server = bench.serve(ComfyServer())
    status = {"status_str": "success", "completed": True, "messages": []}
    for outputs in ({}, {"9": {"images": [{"filename": str(n)} for n in range(2)]}}):
        server.done = lambda *_, outputs=outputs: {"outputs": outputs, "status": status}  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(RenderError, match=r"has made [02] pictures; it must make one"):
            await paint(bench.comfyui(server))


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backend": "openai-images"}, "needs a model's name"),
        ({"backend": "a1111"}, "needs one address, got 0"),
        ({"backend": "a1111", "http": {"urls": ["http://a", "http://b"]}}, "one address, got 2"),
        ({"backend": "comfyui", "http": {"urls": ["http://a"]}}, "needs a workflow's file"),
        (
            {"backend": "openai-images", "model": "x", "steps": 30},
            r'\[render\] steps has no effect with backend = "openai-images"',
        ),
        (
            {"backend": "openai-images", "model": "x", "http": {"api_key_env": "BIGPE_NO_SUCH"}},
            "that environment variable is not set",
        ),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: Any, words: str) -> None:
    at = ServiceContext(BlobStore(tmp_path), tmp_path, tmp_path / "log")
    with pytest.raises(ConfigError, match=words):
        open_renderer(RenderConfig.model_validate(settings), at)


@pytest.mark.parametrize(
    "url", ["host:80", "ftp://host", "http://", "http://me:secret@host", "/x", "http://[::1"]
)
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match=r"address"):
        RenderConfig.model_validate({"http": {"urls": [url]}})


# -- servers that misbehave ------------------------------------------------------------------------


def with_picture(data: bytes) -> Answer:
    return json_answer({"data": [{"b64_json": base64.b64encode(data).decode()}]})


def bomb() -> bytes:
    """A PNG that says it has 20000 x 20000 pixels."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        made += struct.pack(">I", len(body)) + kind + body
        made += struct.pack(">I", zlib.crc32(kind + body))
    return made


def black() -> bytes:
    buffer = io.BytesIO()
    Pictures.new("RGB", (16, 16)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "a page": (Answer(b"<html>hotel</html>", headers={"Content-Type": "image/png"}), "with JSON"),
    "nothing": (json_answer({"data": []}), "with no picture"),
    "another shape": (json_answer(["data"]), "with no picture"),
    "no base64": (json_answer({"data": [{"b64_json": "%%%"}]}), "else than base64"),
    "an address": (json_answer({"data": [{"url": "http://169.254.169.254/x"}]}), "response_format"),
    "no picture": (with_picture(b"<svg onload=alert(1)>"), "no picture of a known format"),
    "a gif": (with_picture(picture("x", kind="GIF")), "no picture of a known format"),
    "half a picture": (with_picture(picture("x", size=64)[:-40]), "cannot be decoded"),
    "one pixel": (with_picture(picture("x", size=1)), "no real picture"),
    "black": (with_picture(black()), "all black"),
    "a bomb": (with_picture(bomb()), "more than 64,000,000 pixels"),
    "too much": (Answer(b"x" * 200_001), "larger than 0.2 MB"),
    "compressed": (Answer(b"x", headers={"Content-Encoding": "gzip"}), "compressed answers"),
    "a redirect": (Answer(b"", 307, {"Location": "http://localhost:1/v1"}), "another host"),
    "a redirect to https": (Answer(b"", 308, {"Location": "https://127.0.0.1/"}), "another host"),
    "a lost POST": (Answer(b"", 302, {"Location": "/login"}), "redirects a POST"),
    "no such model": (
        json_answer({"error": {"message": "no such model"}}, 404),
        "address and the model",
    ),
}


@pytest.mark.parametrize("case", list(BAD_ANSWERS))
async def test_bad_answers_are_failures(bench: Bench, server: OpenAiServer, case: str) -> None:
    answer, words = BAD_ANSWERS[case]
    server.first = [answer]
    renderer = bench.openai(server, http={"max_mb": 0.2})
    with pytest.raises(RenderError, match=words) as caught:
        await paint(renderer)
    assert not caught.value.transient
    assert list(bench.blobs.digests()) == []
    await paint(renderer)


async def test_a_redirect_within_the_host_is_followed(bench: Bench, server: OpenAiServer) -> None:
    server.first = [Answer(b"", 307, {"Location": "/v1/images/generations"})]
    await paint(bench.openai(server))
    assert [request.method for request in server.asked] == ["POST", "POST"]
    server.first = [Answer(b"", 307, {"Location": "/v1/images/generations"})] * 9
    with pytest.raises(RenderError, match="more than 3 redirects"):
        await paint(bench.openai(server))


async def test_another_size_than_asked_is_a_failure(bench: Bench, server: OpenAiServer) -> None:
    server.first = [with_picture(picture("x", size=24))]
    with pytest.raises(RenderError, match="24 x 24 pixels, but 32 x 32 was asked"):
        await paint(bench.openai(server, size=32))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_troubles_of_the_moment_are_transient_and_tried_once(
    bench: Bench, server: OpenAiServer, status: int
) -> None:
    server.first = [json_answer({"error": "user:secret is busy"}, status)]
    renderer = bench.openai(server, http={"api_key_env": KEY})
    with pytest.raises(TransientServiceError, match=f"HTTP {status}") as caught:
        await paint(renderer)
    assert len(server.asked) == 1
    assert "user:secret" not in str(caught.value)


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"data": ')
    handler.close_connection = True


async def test_lost_and_silent_servers_are_transient(bench: Bench, server: OpenAiServer) -> None:
    server.first = [breaks_off, server.hang]
    renderer = bench.openai(server, call_timeout_s=0.3)
    with pytest.raises(TransientServiceError, match="no connection"):
        await paint(renderer)
    with pytest.raises(TransientServiceError, match="no answer in 0.3 s"):
        await paint(renderer)
    gone = bench.open("openai-images", "http://127.0.0.1:9/v1", model="tiny")
    with pytest.raises(TransientServiceError, match="is the server running"):
        await paint(gone)


async def test_one_failure_leaves_its_company_alone(bench: Bench, server: OpenAiServer) -> None:
    server.first = [json_answer({}, 400)]
    made = await bench.openai(server).render(
        [RenderRequest(prompt=f"fox {n}", seed=n) for n in range(3)]
    )
    assert sorted(type(item).__name__ for item in made) == ["Image", "Image", "RenderError"]


# -- what a refusal says of the next request -------------------------------------------------------


async def test_a_refusal_says_when_to_come_back(bench: Bench, server: OpenAiServer) -> None:
    """Whatever the server asks for: who calls decides whether to wait."""
    server.first = [
        json_answer({}, 429, Retry_After="999999"),
        json_answer({"retry_after": 7}, 503),
    ]
    renderer = bench.openai(server)
    for seconds, trouble in ((999999, "overload"), (7, "service")):
        with pytest.raises(TransientServiceError) as caught:
            await paint(renderer)
        assert (caught.value.retry_after_s, caught.value.trouble) == (seconds, trouble)


async def test_a_spent_quota_is_its_own_error(bench: Bench, server: OpenAiServer) -> None:
    server.first = [json_answer({"error": {"code": "insufficient_quota"}}, 429)]
    with pytest.raises(QuotaError, match="insufficient_quota"):
        await paint(bench.openai(server))
