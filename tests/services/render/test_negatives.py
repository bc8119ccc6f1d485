"""Negative prompts of rewrites: they change the picture, or the setting is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.http_pictures import WORKFLOW, A1111Server, ComfyServer, OpenAiServer, PictureServer
from support.tiny_models import make_pipeline

from bigpe.services.backends import ServiceContext, open_renderer
from bigpe.services.core.errors import ConfigError, RenderError
from bigpe.services.core.values import RenderRequest
from bigpe.services.processes.model_service import call_key
from bigpe.services.render.config import RenderConfig
from bigpe.services.render.diffusers.process import DiffusersBackend
from bigpe.services.render.hosted.a1111 import open_a1111
from bigpe.services.render.hosted.comfyui import open_comfyui
from bigpe.services.render.hosted.http_base import HttpRenderer
from bigpe.services.render.hosted.openai_images import open_openai_images
from bigpe.services.render.negatives import require_negative
from bigpe.services.store.blobs import BlobStore
from bigpe.services.workers.wire_format import RenderItems

PLAIN = RenderRequest(prompt="a fox", seed=1)
APART = PLAIN.model_copy(update={"negative": "snow"})


def painter(**settings: Any) -> RenderConfig:
    return RenderConfig.model_validate({"prompt": {"negative": True}, **settings})


# -- diffusers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("negatives") / "pipeline")


def digests(backend: DiffusersBackend, *negatives: str) -> list[str]:
    requests = [PLAIN.model_copy(update={"negative": text}) for text in negatives]
    answer = backend.handle("render", {"items": [request.content() for request in requests]})
    return [item["digest"] for item in answer["items"]]


def test_a_negative_prompt_changes_the_picture_in_any_company(
    pipeline: Path, tmp_path: Path
) -> None:
    own: dict[str, Any] = {"model": str(pipeline), "steps": 2, "threads": 1, "device": "cpu"}
    backend = DiffusersBackend(painter(**own), tmp_path)
    plain, snow, rain = digests(backend, "", "snow", "rain")
    assert len({plain, snow, rain}) == 3
    # It replaces the configured one, which pictures without keep.
    configured = DiffusersBackend(painter(**own, negative_prompt="rain"), tmp_path)
    assert digests(configured, "snow", "") == [snow, rain]
    batched = DiffusersBackend(painter(**own, deterministic=False), tmp_path)
    assert digests(batched, "snow", "", "rain") == [
        digests(batched, n)[0] for n in ("snow", "", "rain")
    ]
    assert (
        backend.fingerprint()
        == DiffusersBackend(RenderConfig.model_validate(own), tmp_path).fingerprint()
    )


def test_a_renderer_that_was_not_set_up_for_one_refuses_it(pipeline: Path, tmp_path: Path) -> None:
    config = RenderConfig(model=str(pipeline), steps=2, threads=1, device="cpu")
    backend = DiffusersBackend(config, tmp_path)
    with pytest.raises(RenderError):
        digests(backend, "snow")
    assert digests(backend, "")


# -- digests and wire ------------------------------------------------------------------------------


def test_requests_without_one_keep_their_keys() -> None:
    body, key = call_key("render", "model", PLAIN)
    assert body == {"prompt": "a fox", "seed": 1}
    assert key == "87a5230d66742dfc905273f43bf90408a0bab9b46ba56fd5c0d5ff148a4504e7"
    assert call_key("render", "model", APART)[1] != key


def test_workers_get_it(tmp_path: Path) -> None:
    items = RenderItems(BlobStore(tmp_path))
    assert items.write_request(PLAIN) == {"prompt": "a fox", "seed": 1}
    assert items.read_request(items.write_request(APART)) == APART


# -- services --------------------------------------------------------------------------------------


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[list[Any]]:
    made: list[Any] = []
    yield made
    for item in made:
        if isinstance(item, PictureServer):
            item.close()
        else:
            await item.close()


async def sent(
    renderer: HttpRenderer, server: PictureServer, *requests: RenderRequest
) -> list[Any]:
    for made in await renderer.render(requests):
        if isinstance(made, Exception):
            raise made
    return [request.json for request in server.asked if request.json]


async def test_a1111_gets_it_in_place_of_the_configured_one(
    opened: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICTURE_KEY", "user:secret")
    server = A1111Server()
    http = {"urls": [server.url], "api_key_env": "PICTURE_KEY", "concurrency": 1}
    config = painter(backend="a1111", negative_prompt="blur", http=http)
    renderer = open_a1111(config, BlobStore(tmp_path))
    opened += [server, renderer]
    bodies = await sent(renderer, server, PLAIN, APART)
    assert [body["negative_prompt"] for body in bodies] == ["blur", "snow"]


async def test_comfyui_gets_it_where_the_workflow_has_its_place(
    opened: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "flow.json").write_text(json.dumps(WORKFLOW))
    server = ComfyServer()
    http = {"urls": [server.url], "workflow": "flow.json", "concurrency": 1}
    config = painter(backend="comfyui", http=http)
    require_negative(config, tmp_path)
    renderer = open_comfyui(config, BlobStore(tmp_path), tmp_path)
    opened += [server, renderer]
    bodies = await sent(renderer, server, PLAIN, APART)
    texts = [body["prompt"]["7"]["inputs"]["text"] for body in bodies if "prompt" in body]
    assert texts == ["ugly, ", "ugly, snow"]


async def test_a_service_without_one_fails_such_a_request(
    opened: list[Any], tmp_path: Path
) -> None:
    server = OpenAiServer()
    config = RenderConfig.model_validate(
        {"backend": "openai-images", "model": "tiny", "http": {"urls": [f"{server.url}/v1"]}}
    )
    renderer = open_openai_images(config, BlobStore(tmp_path))
    opened += [server, renderer]
    with pytest.raises(RenderError):
        await sent(renderer, server, APART)
    assert server.asked == []


# -- where it has no effect ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": 0.0},
        {"guidance": 1.0},
        {"model": "stabilityai/sdxl-turbo", "guidance": 0.0},
        {"model": "black-forest-labs/FLUX.1-dev"},
        {"model": "black-forest-labs/FLUX.2-klein-4B"},
        {"model": "Qwen/Qwen-Image"},  # guidance only with a configured negative prompt
        {"model": "Tongyi-MAI/Z-Image-Turbo", "guidance": 0.0},
        {"model": "ideogram-ai/ideogram-4"},
        {"backend": "openai-images", "model": "gpt-image-1"},
        {"backend": "a1111", "model": "flux1-dev-fp8"},
        {"backend": "a1111", "guidance": 1.0},
        {"backend": "comfyui", "http": {"workflow": "without.json"}},
        {"backend": "comfyui", "guidance": 1.0, "http": {"workflow": "guided.json"}},
    ],
    ids=str,
)
def test_it_is_refused_where_it_has_no_effect(settings: dict[str, Any], tmp_path: Path) -> None:
    texts = {"6": {"class_type": "T", "inputs": {"text": "{prompt}", "seed": "{seed}"}}}
    (tmp_path / "without.json").write_text(json.dumps(texts))
    further = {"class_type": "T", "inputs": {"text": "{negative_prompt}", "cfg": "{guidance}"}}
    (tmp_path / "guided.json").write_text(json.dumps({**texts, "7": further}))
    config = painter(**settings)
    with pytest.raises(ConfigError, match=r"\[render\.prompt\] negative"):
        require_negative(config, tmp_path)
    context = ServiceContext(BlobStore(tmp_path / "images"), tmp_path, tmp_path / "log")
    with pytest.raises(ConfigError, match=r"\[render\.prompt\] negative"):
        open_renderer(config, context)
    require_negative(config.model_copy(update={"prompt": RenderConfig().prompt}), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": "stabilityai/stable-diffusion-xl-base-1.0", "guidance": 5.0},
        {"model": "stabilityai/stable-diffusion-3.5-large", "guidance": 4.5},
        {"model": "Qwen/Qwen-Image", "negative_prompt": " "},
        {"model": "Tongyi-MAI/Z-Image", "guidance": 0.5},
        {"model": "somebody/a-model-of-mine"},
        {"backend": "a1111"},
        {"backend": "bigpe"},
    ],
    ids=str,
)
def test_it_is_taken_elsewhere(settings: dict[str, Any], tmp_path: Path) -> None:
    require_negative(painter(**settings), tmp_path)
