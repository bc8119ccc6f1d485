"""Services that take pictures as jobs, against servers on this machine that speak their APIs."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures
from support.http_pictures import json_answer, picture
from support.job_servers import BLOCKED, Bfl, Fal, Gemini, JobServer, Replicate, Together

from bigpe.services.backends import ServiceContext, open_renderer
from bigpe.services.core.errors import (
    ConfigError,
    ModerationError,
    RenderError,
    TransientServiceError,
)
from bigpe.services.core.values import Image, RenderRequest
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.service import Renderer
from bigpe.services.store.blobs import BlobStore

KEY = "BIGPE_TEST_JOB_KEY"
KINDS: dict[str, type[JobServer]] = {
    "together": Together, "fal": Fal, "replicate": Replicate, "bfl": Bfl, "gemini-images": Gemini,
}  # fmt: skip
JOB: dict[str, Any] = {
    "submit": "/v1/predictions",
    "body": {"input": {"prompt": "a picture of {prompt}", "seed": "{seed}"}},
    "look_up": "/v1/predictions/{id}",
    "state": "status",
    "done": ["succeeded"],
    "failed": ["failed"],
    "picture": ["output.0"],
}
"""A service like Replicate that the user describes."""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder / "images")
        self.folder = folder
        self.open_ones: list[Renderer] = []
        self.servers: list[JobServer] = []

    def serve(self, kind: type[JobServer]) -> JobServer:
        self.servers.append(kind())
        return self.servers[-1]

    def open(self, backend: str, server: JobServer, **settings: Any) -> Renderer:
        own: dict[str, Any] = settings.pop("http", {})
        http = {"urls": [server.url], "api_key_env": KEY, **own}
        raw = {"backend": backend, "model": "maker/model", "call_timeout_s": 10.0, **settings}
        config = RenderConfig.model_validate({**raw, "http": http})
        context = ServiceContext(self.blobs, self.folder, self.folder / "log")
        self.open_ones.append(open_renderer(config, context))
        return self.open_ones[-1]


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv(KEY, "secret")
    monkeypatch.setattr("bigpe.services.render.hosted.jobs.FIRST_LOOK_S", 0.01)
    made = Bench(tmp_path)
    yield made
    for renderer in made.open_ones:
        await renderer.close()
    for server in made.servers:
        server.close()


async def paint(renderer: Renderer, prompt: str = "a fox", seed: int = 7) -> Image:
    [made] = await renderer.render([RenderRequest(prompt=prompt, seed=seed)])
    if isinstance(made, Exception):
        raise made
    return made


def colour(bench: Bench, image: Image) -> Any:
    with Pictures.open(io.BytesIO(bench.blobs.read(image.digest))) as opened:
        return opened.getpixel((0, 0))


def colour_of(prompt: str, seed: int) -> Any:
    return Pictures.open(io.BytesIO(picture(prompt, seed))).getpixel((0, 0))


@pytest.mark.parametrize("backend", KINDS)
async def test_a_service_paints(backend: str, bench: Bench) -> None:
    server = bench.serve(KINDS[backend])
    renderer = bench.open(backend, server)
    assert await renderer.open() == await renderer.open()
    assert colour(bench, await paint(renderer)) == colour_of("a fox", 7)


@pytest.mark.parametrize("backend", KINDS)
async def test_a_refusal_of_content_is_its_own_error(backend: str, bench: Bench) -> None:
    renderer = bench.open(backend, bench.serve(KINDS[backend]))
    with pytest.raises(ModerationError):
        await paint(renderer, f"a {BLOCKED} fox")
    await paint(renderer)


@pytest.mark.parametrize("backend", KINDS)
async def test_a_wrong_key_is_a_failure(
    backend: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "wrong")
    with pytest.raises(RenderError, match="check the key") as caught:
        await paint(bench.open(backend, bench.serve(KINDS[backend])))
    assert not isinstance(caught.value, ModerationError)
    monkeypatch.delenv(KEY)
    with pytest.raises(ConfigError, match=KEY):
        bench.open(backend, bench.servers[0])


@pytest.mark.parametrize(
    ("backend", "sent"),
    [
        ("together", {"steps": 4, "guidance_scale": 2.5, "width": 32, "height": 32}),
        ("fal", {"num_inference_steps": 4, "image_size": {"width": 32, "height": 32}}),
        ("bfl", {"steps": 4, "guidance": 2.5, "width": 32, "prompt_upsampling": False}),
    ],
)
async def test_settings_are_sent_by_the_names_of_the_service(
    backend: str, sent: dict[str, Any], bench: Bench
) -> None:
    server = bench.serve(KINDS[backend])
    await paint(bench.open(backend, server, steps=4, guidance=2.5, width=32, height=32))
    assert sent.items() <= server.jobs[0].items()
    await paint(bench.open(backend, server))
    assert not {"steps", "num_inference_steps", "guidance", "image_size"} & server.jobs[1].keys()


async def test_further_fields_are_added_object_by_object(bench: Bench) -> None:
    server = bench.serve(Gemini)
    extra = {"generationConfig": {"imageConfig": {"aspectRatio": "3:2"}, "seed": 1}, "n": 1}
    await paint(bench.open("gemini-images", server, http={"extra": extra}))
    config = server.jobs[0]["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "3:2"}
    assert (config["seed"], server.jobs[0]["n"]) == (7, 1)
    with pytest.raises(ConfigError, match="width"):
        bench.open("gemini-images", server, width=16, height=16)


async def test_a_service_of_your_own(bench: Bench) -> None:
    server = bench.serve(Replicate)
    renderer = bench.open("jobs", server, model="embedded", http={"job": JOB})
    assert colour(bench, await paint(renderer)) == colour_of("a picture of a fox", 7)
    with pytest.raises(ModerationError):  # by the words of its failure
        await paint(renderer, BLOCKED)
    with pytest.raises(ConfigError, match="job"):
        bench.open("jobs", server)
    with pytest.raises(ConfigError, match="prompt"):
        bench.open("jobs", server, http={"job": {**JOB, "body": {"seed": "{seed}"}}})
    with pytest.raises(ConfigError, match="steps"):
        bench.open("jobs", server, model="embedded", steps=3, http={"job": JOB})


async def test_addresses_on_other_hosts_are_not_fetched(bench: Bench) -> None:
    server = bench.serve(Bfl)
    elsewhere = "https://169.254.169.254/latest"
    server.first = [json_answer({"id": "1", "polling_url": elsewhere})]
    with pytest.raises(RenderError, match="picture_hosts"):
        await paint(bench.open("bfl", server))
    done = {"status": "Ready", "result": {"sample": "https://evil.example/x.png"}}
    server.first = [json_answer({"id": "1", "polling_url": f"{server.url}/1"}), json_answer(done)]
    with pytest.raises(RenderError, match="picture_hosts"):
        await paint(bench.open("bfl", server))


async def test_pictures_of_a_host_that_is_allowed(bench: Bench) -> None:
    server, pictures = bench.serve(Together), bench.serve(Together)
    pictures.jobs.append({"prompt": "far", "seed": 1})
    address = f"{pictures.url}/made/0"
    for hosts, fetched in (([], False), (["127.0.0.*"], True), (["*.example.com"], False)):
        server.first = [json_answer({"data": [{"url": address}]})]
        renderer = bench.open("together", server, http={"picture_hosts": hosts})
        if fetched:
            assert colour(bench, await paint(renderer)) == colour_of("far", 1)
        else:
            with pytest.raises(RenderError, match="picture_hosts"):
                await paint(renderer)


async def test_a_failing_look_up_does_not_pay_a_second_picture(bench: Bench) -> None:
    server = bench.serve(Replicate)
    get = {"get": f"{server.url}/v1/predictions/0"}
    first = json_answer({"status": "starting", "urls": get})
    server.jobs.append({"input": {"prompt": "a fox", "seed": 7}})
    server.first = [first, json_answer({}, 503), json_answer({}, 502)]
    await paint(bench.open("replicate", server))
    assert [request.method for request in server.asked].count("POST") == 1


async def test_a_job_that_never_ends_is_transient(bench: Bench) -> None:
    server = bench.serve(Bfl)
    server.looks_until_done = 10_000
    with pytest.raises(TransientServiceError, match="no picture"):
        await paint(bench.open("bfl", server, call_timeout_s=0.3))
